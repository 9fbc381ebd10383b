greet "$(cat /app/version)"
