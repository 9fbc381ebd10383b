//! Who is no client but a web page in a browser: by the name it calls the registry, and by what browsers say of it.

use super::super::common::{TestEnv, Who, skip};
use super::client::{Connection, Reply};
use super::served::{Served, sha256};

#[track_caller]
fn ask(served: &Served, line: &str, host: &str, headers: &str) -> Reply {
    let mut connection = Connection::open(served.host());
    let head =
        format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
    connection.send(head);
    connection.answer(line.starts_with("HEAD")).unwrap_or_else(|| panic!("no answer to {line}"))
}

#[test]
fn a_name_that_was_made_to_lead_here() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let served = Served::start(&env, &["--allow-host", "registry.lan"]);
    let digest = served.blob("a", b"secret");
    let port = served.host().rsplit_once(':').unwrap().1;
    let upload = format!("POST /v2/a/blobs/uploads/?digest={}", sha256(b""));
    served.keeps_nothing(|| {
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"] {
            for line in [&format!("GET /v2/a/blobs/{digest}"), "GET /v2/_catalog", "GET /", &upload] {
                let reply = ask(&served, line, &format!("{host}:{port}"), "").fails(403, "DENIED");
                let message = reply.json()["errors"][0]["message"].as_str().unwrap().to_owned();
                assert!(message.contains(&format!("--allow-host {host}")), "{message}");
            }
        }
        // Nor by a whole address as the target.
        ask(&served, "GET http://evil.example/v2/", "localhost", "").fails(403, "DENIED");
    });
    for host in ["localhost", "127.0.0.1", "[::1]", "registry.lan", "Registry.LAN", "my.localhost"] {
        let reply = ask(&served, &format!("GET /v2/a/blobs/{digest}"), &format!("{host}:{port}"), "").is(200);
        assert_eq!(reply.body, b"secret");
    }
}

#[test]
fn a_page_that_sends_what_it_cannot_read() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let served = Served::start(&env, &["--allow-host", "ui.example"]);
    let image = served.image("a", "x");
    served.put("a", "1", &image);
    let port = served.host().rsplit_once(':').unwrap().1;
    let (host, upload) =
        (format!("localhost:{port}"), format!("POST /v2/a/blobs/uploads/?digest={}", sha256(b"")));
    served.keeps_nothing(|| {
        for headers in [
            "Origin: https://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: http://localhost:1\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
        ] {
            for line in
                [&upload, "DELETE /v2/a/manifests/1", "PUT /v2/a/manifests/2", "PATCH /v2/a/blobs/uploads/x"]
            {
                ask(&served, line, &host, headers).fails(403, "DENIED");
            }
            ask(&served, "GET /v2/a/tags/list", &host, headers).is(200);
        }
    });
    ask(&served, &upload, &host, &format!("Origin: http://localhost:{port}\r\n")).is(201);
    ask(&served, "DELETE /v2/a/manifests/1", &host, "Origin: https://ui.example\r\n").is(202);
}

/// Who must show a password is led there by no name: those of proxies are as good as any.
#[test]
fn with_users_any_name_will_do() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let users = env.path("users");
    std::fs::write(&users, "me:$2b$04$InY1N2vm44gqpTgZq7pLHelQR7.ImY6U03NW7.Vm/fGr2OJnNg7r6\n").unwrap();
    let served = Served::start(&env, &["--htpasswd", users.to_str().unwrap()]);
    ask(&served, "GET /v2/", "registry.example", "").fails(401, "UNAUTHORIZED");
    let known = "Authorization: Basic bWU6c2VjcmV0\r\n";
    ask(&served, "GET /v2/", "registry.example", known).is(200);
    let page = format!("{known}Origin: https://evil.example\r\n");
    ask(&served, "POST /v2/a/blobs/uploads/", "registry.example", &page).fails(403, "DENIED");
}
