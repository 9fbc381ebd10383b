//! `rbuild search`: what is asked of whom, and docker's table.

use super::common::TestEnv;
use super::common::http::{Answer, Asked, Body, Server};

/// An index that knows a few repositories.
fn index() -> Server {
    Server::start(|asked| {
        match asked.target.starts_with("/v1/search?") {
        true => Answer::ok(
            r#"{"num_pages":1,"num_results":3,"page":1,"page_size":25,"query":"x","results":[
            {"name":"me/busy","description":"Two\nlines","star_count":1,"is_official":false,"is_automated":true},
            {"name":"busybox","description":"Busybox base image, with so many words that they are cut","star_count":3000,"is_official":true,"is_automated":false},
            {"name":"evil","description":"a\u001b]0;owned\u0007b\u001b[2Jc","star_count":0}]}"#,
        )
        .with("Content-Type", "application/json"),
        false => Answer::status(404),
    }
    })
}

fn put(env: &TestEnv, name: &str, text: &str) -> String {
    let path = env.dir().join("home").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    env.give(path.parent().unwrap());
    env.give(&path);
    path.display().to_string()
}

both! {
    fn the_table_is_dockers(env) {
        let server = index();
        let term = format!("{}/busy box", server.host());
        env.rbuild(&["search", &term]).ok().prints(
            "NAME      DESCRIPTION                                     STARS     OFFICIAL   AUTOMATED\n\
             busybox   Busybox base image, with so many words that …   3000      [OK]       \n\
             me/busy   Two lines                                       1                    [OK]\n\
             evil      abc                                             0                    \n",
        );
        let asked = server.asked();
        assert_eq!(asked.last().unwrap().target, "/v1/search?q=busy+box&n=25");
        let names = |args: &[&str], expect: &str| {
            let words = [&["search", "--format", "{{.Name}} {{.StarCount}}", &term][..], args].concat();
            env.rbuild(&words).ok().prints(expect);
        };
        names(&["--filter", "is-official=true"], "busybox 3000\n");
        names(&["--filter", "is-official=false", "-f", "stars=1"], "me/busy 1\n");
        names(&["--filter=is-automated=true"], "me/busy 1\n");
        names(&["--filter", "stars=3001"], "");
        names(&["--limit", "1"], "me/busy 1\n");
        assert!(server.asked().last().unwrap().target.ends_with("&n=1"));
        env.rbuild(&["search", "-s", "2", &term]).ok()
            .has("Flag --stars has been deprecated, use --filter=stars=3 instead").has("busybox").lacks("me/busy");
        env.rbuild(&["search", "--automated", &term]).ok()
            .has("Flag --automated has been deprecated, use --filter=is-automated=true instead").lacks("busybox");
        env.rbuild(&["search", "--no-trunc", &term]).ok().has("so many words that they are cut  ");
        env.rbuild(&["search", "--filter", "stars=3", "--format", "{{json .}}", &term]).ok().prints(
            "{\"Description\":\"Busybox base image, with so many words that …\",\"IsAutomated\":\"false\",\
             \"IsOfficial\":\"true\",\"Name\":\"busybox\",\"StarCount\":\"3000\"}\n");
    }

    fn what_cannot_be_searched(env) {
        let server = index();
        let term = format!("{}/x", server.host());
        env.rbuild(&["search"]).exits(2);
        env.rbuild(&["search", "--limit", "101", &term]).exits(2).has("Limit 101 is outside the range of [1, 100]");
        env.rbuild(&["search", "--limit", "-1", &term]).exits(2).has("Limit -1 is outside");
        env.rbuild(&["search", "--filter", "color=red", &term]).exits(2).has("invalid filter `color`");
        env.rbuild(&["search", "--filter", "stars=many", &term]).exits(2).has("stars");
        env.rbuild(&["search", "http://localhost/x"]).exits(2).has("should not have a scheme");
        assert_eq!(server.count(), 0);
        let with = |answer: Answer| {
            let server = Server::start(move |_| answer.clone());
            env.rbuild(&["search", &format!("{}/x", server.host())]).exits(1)
        };
        with(Answer::status(404)).has("was not found").has("not every registry can be searched");
        with(Answer::ok("<html>")).has("cannot be read");
        with(Answer::ok(vec![b' '; 5 << 20]));
        with(Answer::status(403)).has("denied");
        with(Answer::bad(Body::Short(b"{".to_vec(), 10)));
    }

    /// docker.io is asked through its mirrors first; other registries have none.
    fn docker_io_is_asked_through_mirrors(env) {
        let (empty, server) = (Server::start(|_| Answer::status(404)), index());
        let mirrors = format!(r#"{{"registry-mirrors":["http://{}","http://{}"]}}"#, empty.host(), server.host());
        let file = put(env, "daemon.json", &mirrors);
        let found = env.rbuild(&["--daemon-json", &file, "search", "--format", "{{.Name}}", "library/busy"]).ok();
        found.prints("busybox\nme/busy\nevil\n");
        assert_eq!((empty.count(), server.count()), (1, 1));
        assert_eq!(server.asked()[0].target, "/v1/search?q=busy&n=25");
        assert!(server.asked()[0].header("authorization").is_none());
    }

    /// Credentials go to the server they are for, and to it when it asks.
    fn credentials_are_for_their_host(env) {
        let wants = |asked: &Asked| match asked.header("authorization") {
            Some("Basic bWU6c2VjcmV0") => Answer::ok(r#"{"results":[{"name":"mine"}]}"#),
            _ => Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\""),
        };
        let (own, other) = (Server::start(wants), Server::start(wants));
        let leads = { let to = other.url("/v1/search"); Server::start(move |_| Answer::redirect(302, &to)) };
        let auths = [own.host(), leads.host()].map(|host| format!(r#""{host}":{{"auth":"bWU6c2VjcmV0"}}"#));
        put(env, ".docker/config.json", &format!(r#"{{"auths":{{{}}}}}"#, auths.join(",")));
        env.rbuild(&["search", &format!("{}/mi", own.host())]).ok().has("mine");
        for host in [other.host(), leads.host()] {
            env.rbuild(&["search", &format!("{host}/mi")]).exits(1).has("denied").lacks("secret");
        }
        assert!(other.asked().iter().all(|asked| asked.header("authorization").is_none()));
    }
}
