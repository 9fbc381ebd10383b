# fish completion for rbuild: asks rbuild itself. `rbuild completion fish` prints this file.

function __rbuild_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in (command $words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
        set -l parts (string split -m 1 \t -- $line)
        switch $parts[1]
            case :files :dirs
                set -l rest (string sub -s (math (string length -- "$parts[2]") + 1) -- "$current")
                for path in (__fish_complete_path "$rest" "")
                    set -l file (string split -m 1 \t -- $path)[1]
                    if test $parts[1] = :files; or string match -q -- '*/' $file
                        echo "$parts[2]$file"
                    end
                end
            case '*'
                echo $line
        end
    end
end

complete -c rbuild -f -a '(__rbuild_complete)'
