# cmake --install build/release [--prefix DIR], and a Debian package: cpack -G DEB --config build/release/CPackConfig.cmake
include(GNUInstallDirs)
set(data_folder ${CMAKE_INSTALL_DATADIR}/dcs3gd-train)

install(TARGETS dcs3gd-train dcs3gd-bench dcs3gd-data dcs3gd-predict RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# Where --config finds them by name: app/programs/train_command.cpp.
install(DIRECTORY configs/ DESTINATION ${data_folder}/configs)
install(PROGRAMS scripts/report.py scripts/sweep.py scripts/compare_variants.py scripts/convert_weights.py scripts/elastic.py
        scripts/scale_report.py scripts/train_slurm.sbatch DESTINATION ${data_folder}/scripts)
install(FILES scripts/output_file.py scripts/run_results.py scripts/report_errors.py scripts/report_plots.py
        scripts/report_server.py scripts/sweep_plan.py DESTINATION ${data_folder}/scripts)
# In PATH: links, beside whose targets Python finds what the scripts import.
file(RELATIVE_PATH scripts_from_bin ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_DATADIR}/dcs3gd-train/scripts)
foreach(command report sweep convert-weights elastic compare-variants scale-report)
  string(REPLACE - _ script ${command})
  set(link ${PROJECT_BINARY_DIR}/commands/dcs3gd-${command})
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/commands)
  file(CREATE_LINK ${scripts_from_bin}/${script}.py ${link} SYMBOLIC)
  install(FILES ${link} DESTINATION ${CMAKE_INSTALL_BINDIR})
endforeach()
install(FILES README.md CHANGELOG.md LICENSE ${CMAKE_CURRENT_LIST_DIR}/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR})
set(manual ${CMAKE_CURRENT_LIST_DIR}/dcs3gd-train.1)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${manual})
execute_process(COMMAND gzip -9nc INPUT_FILE ${manual} OUTPUT_FILE ${PROJECT_BINARY_DIR}/dcs3gd-train.1.gz COMMAND_ERROR_IS_FATAL ANY)
install(FILES ${PROJECT_BINARY_DIR}/dcs3gd-train.1.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/dcs3gd-train.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME dcs3gd-train)

install(FILES ${CMAKE_CURRENT_LIST_DIR}/lintian-overrides DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides
        RENAME dcs3gd-train)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "the dcs3gd-train authors")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "Trains convolutional networks by delay-compensated stale-synchronous SGD:
the all-reduce of a step runs while the next gradient is computed. One
process, or many under mpirun or Slurm, configured by a YAML file.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)  # what the programs link
set(CPACK_DEBIAN_PACKAGE_DEPENDS openmpi-bin)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "python3, python3-matplotlib, python3-pil, python3-yaml")  # dcs3gd-report and others
include(CPack)
