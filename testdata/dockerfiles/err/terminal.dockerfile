FROM a
]0;titleX ‮
