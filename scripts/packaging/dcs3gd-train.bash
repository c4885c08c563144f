# Completion of dcs3gd-train's command line: options, configurations, keys.

# Every key of the configuration: section.key, as the program prints them.
_dcs3gd_train_keys() {
  echo '{}' | dcs3gd-train --config /dev/stdin --print-config 2> /dev/null | awk -F: '
    { match($0, /^ */); depth = RLENGTH / 2; name[depth] = substr($1, RLENGTH + 1); value = $0; sub(/^[^:]*:/, "", value) }
    value ~ /[^ ]/ { key = ""; for (i = 0; i <= depth; ++i) key = key (i ? "." : "") name[i]; print key }'
}

_dcs3gd_train() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local configs
  configs=$(dirname "$(command -v dcs3gd-train)")/../share/dcs3gd-train/configs
  case $previous in
    --config)
      mapfile -t COMPREPLY < <(compgen -f -X '!*.yaml' -- "$current"; compgen -d -S / -- "$current"
        [[ -d $configs ]] && compgen -W "$(cd "$configs" && ls -- *.yaml)" -- "$current")
      compopt -o nospace 2> /dev/null ;;
    --set)
      mapfile -t COMPREPLY < <(compgen -S = -W "$(_dcs3gd_train_keys)" -- "$current")
      compopt -o nospace 2> /dev/null ;;
    --resume) mapfile -t COMPREPLY < <(compgen -W "auto never" -- "$current"; compgen -d -- "$current") ;;
    --eval) mapfile -t COMPREPLY < <(compgen -f -X '!*.safetensors' -- "$current"; compgen -d -S / -- "$current") ;;
    --predictions) mapfile -t COMPREPLY < <(compgen -f -X '!*.csv' -- "$current"; compgen -d -S / -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "--config --set --resume --eval --predictions --dry-run --print-config --version --help" -- "$current") ;;
  esac
}

complete -F _dcs3gd_train dcs3gd-train
