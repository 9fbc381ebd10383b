FROM a
RUN <<EOF
echo a

# kept
EOF
RUN <<-'EOF'
	#!/bin/sh
		echo $x
	EOF
RUN cat <<A - 3<<B >/x && echo <<<c
1
A
2
B
RUN python3 <<EOF>out; true
print(1)
EOF
