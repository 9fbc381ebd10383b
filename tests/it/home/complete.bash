# What bash completes a command line to: its words broken as readline breaks them, the function called, the
# answers printed. usage: bash complete.bash LINE; rbuild is in PATH.
source <(rbuild completion bash)
line=$1 COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=()
while [[ $line ]]; do
  case $line in
    [[:blank:]]*) line=${line#?}; [[ $line ]] || COMP_WORDS+=("") ;;
    [:=]*) w=${line%%[!:=]*}; COMP_WORDS+=("$w"); line=${line#"$w"};  [[ $line ]] || COMP_WORDS+=("") ;;
    *) w=${line%%[[:blank:]:=]*}; COMP_WORDS+=("$w"); line=${line#"$w"} ;;
  esac
done
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_rbuild rbuild
printf '%s\n' "${COMPREPLY[@]}"
