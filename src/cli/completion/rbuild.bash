# bash completion for rbuild: asks rbuild itself. `rbuild completion bash` prints this file.

_rbuild() {
    # The words as they were written: bash breaks them at `:` and `=`, and so breaks app:1 and --file=x.
    local rest=${COMP_LINE:0:COMP_POINT} words=() word i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i == 0)) || [[ $rest == [[:blank:]]* ]]; then
            rest=${rest#"${rest%%[![:blank:]]*}"}
            words+=("")
        fi
        if ((i == COMP_CWORD)); then word=$rest; fi
        words[${#words[@]} - 1]+=$word
        rest=${rest#"$word"}
    done
    local current=${words[${#words[@]} - 1]}
    # What bash takes for whole words before the one it completes.
    local broken=""
    if [[ $current == *[:=]* ]]; then broken=${current%"${current##*[:=]}"}; fi

    local line answer prefix program=${1/#\~/$HOME}
    COMPREPLY=()
    while IFS= read -r line; do
        answer=${line%%$'\t'*}
        case $line in
            :files* | :dirs*)
                prefix=${line#*$'\t'}
                local kind=-f path
                if [[ $line == :dirs* ]]; then kind=-d; fi
                compopt -o filenames 2> /dev/null
                while IFS= read -r path; do
                    path=$prefix$path
                    COMPREPLY+=("${path#"$broken"}")
                done < <(compgen "$kind" -- "${current#"$prefix"}")
                ;;
            *)
                case $answer in
                    *[=:,/]) compopt -o nospace 2> /dev/null ;;
                esac
                COMPREPLY+=("${answer#"$broken"}")
                ;;
        esac
    done < <(command "$program" __complete -- "${words[@]:1}" 2> /dev/null)
}

complete -F _rbuild rbuild
