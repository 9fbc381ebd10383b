# What zsh completes a command line to: typed into a real line editor, a tab, and return.
# usage: zsh -f complete.zsh LINE; rbuild is in PATH.
zmodload zsh/zpty
zpty shell zsh -f -i
send() { zpty -w shell "$1" }
send "PS1=; PS2=; unsetopt beep zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source =(rbuild completion zsh); bindkey '^I' complete-word; rbuild() { print -r -- \"GOT<\$*>\" }; print READY''NOW"
zpty -r -m shell out '*READYNOW*'
zpty -w -n shell "$1"$'\t\n'
zpty -r -m shell out '*GOT<*>*'
print -r -- "${${out##*GOT<}%%>*}"
