FROM a
COPY --chmod=755 <<one.sh other <<-"two" /dir/
$expanded
one.sh
	$literal
	two
ADD <<E /e
E
