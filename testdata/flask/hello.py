"""Answers /hi with a greeting."""

from flask import Flask

app = Flask(__name__)


@app.route("/hi")
def hi():
    return "Hello World!"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5000)
