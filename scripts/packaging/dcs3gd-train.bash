# Completion of dcs3gd-train's command line: options, configurations, keys.

# Every key of the configuration: section.key, as the program prints them.
_dcs3gd_train_keys() {
  dcs3gd-train --print-config 2> /dev/null | awk -F: '
    { sub(/^  # name/, "  name") }
    { match($0, /^ */); depth = RLENGTH / 2; name[depth] = substr($1, RLENGTH + 1); value = $0; sub(/^[^:]*:/, "", value) }
    value ~ /[^ ]/ { key = ""; for (i = 0; i <= depth; ++i) key = key (i ? "." : "") name[i]; print key }'
}

# What a key may be, where that is one of some words: "(one of a, b)" at the end of its line.
_dcs3gd_train_values() {
  dcs3gd-train --print-config 2> /dev/null | awk -v key="$1" '
    { match($0, /^ */); depth = RLENGTH / 2; line = substr($0, RLENGTH + 1); sub(/:.*/, "", line); name[depth] = line
      path = ""; for (i = 0; i <= depth; ++i) path = path (i ? "." : "") name[i] }
    path == key && match($0, /\(one of [^()]*\)$/) { words = substr($0, RSTART + 8, RLENGTH - 9); gsub(/,/, "", words); print words }
    path == key && /\(true or false\)$/ { print "true false" }'
}

_dcs3gd_train() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local configs key
  configs=$(dirname "$(command -v dcs3gd-train)")/../share/dcs3gd-train/configs
  # bash splits model.name=resnet18 at the sign.
  if [[ $current == = ]]; then current='' previous='=' key=${COMP_WORDS[COMP_CWORD - 1]}
  elif [[ $previous == = ]]; then key=${COMP_WORDS[COMP_CWORD - 2]}; fi
  case $previous in
    =) mapfile -t COMPREPLY < <(compgen -W "$(_dcs3gd_train_values "$key")" -- "$current") ;;
    --config)
      mapfile -t COMPREPLY < <(compgen -f -X '!*.yaml' -- "$current"; compgen -d -S / -- "$current"
        [[ -d $configs ]] && compgen -W "$(cd "$configs" && ls -- *.yaml)" -- "$current")
      compopt -o nospace 2> /dev/null ;;
    --set)
      mapfile -t COMPREPLY < <(compgen -S = -W "$(_dcs3gd_train_keys)" -- "$current")
      compopt -o nospace 2> /dev/null ;;
    --resume) mapfile -t COMPREPLY < <(compgen -W "auto never" -- "$current"; compgen -d -- "$current") ;;
    --eval) mapfile -t COMPREPLY < <(compgen -f -X '!*.safetensors' -- "$current"; compgen -d -S / -- "$current") ;;
    --init-config) mapfile -t COMPREPLY < <(compgen -d -S / -- "$current") ;;
    --predictions) mapfile -t COMPREPLY < <(compgen -f -X '!*.csv' -- "$current"; compgen -d -S / -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "--config --set --resume --eval --predictions --dry-run --init-config --print-config --print-keys --version --help" -- "$current") ;;
  esac
}

complete -F _dcs3gd_train dcs3gd-train
