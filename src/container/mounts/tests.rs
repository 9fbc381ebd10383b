//! Tests of what `-v` and `--mount` mean.

use super::*;

fn shown(mount: &ContainerMount) -> String {
    let kind = match &mount.kind {
        MountKind::Bind { source, make, recursive } => {
            let flags = [(*make, " make"), (!recursive, " flat")];
            format!(
                "bind {}{}",
                source.display(),
                flags.map(|(is, word)| if is { word } else { "" }).concat()
            )
        }
        MountKind::Volume { name, anonymous, copy, subpath, labels, options } => format!(
            "volume {}{}{}{}{}",
            name.as_deref().unwrap_or("-"),
            if *anonymous { " anonymous" } else { "" },
            if *copy { "" } else { " nocopy" },
            subpath.as_ref().map(|path| format!(" sub={path}")).unwrap_or_default(),
            labels.iter().chain(options).map(|(k, v)| format!(" {k}={v}")).collect::<String>(),
        ),
        MountKind::Tmpfs { size, mode } => format!("tmpfs {size} {mode:o}"),
    };
    format!("{kind} at {}{}", mount.target, if mount.read_only { " ro" } else { "" })
}

#[track_caller]
fn check(text: &str, expect: Result<&str, &str>) {
    let found = volume(text, Path::new("/here")).map(|mount| shown(&mount)).map_err(|error| error.0);
    assert_eq!(found.as_deref().map_err(String::as_str), expect, "{text}");
}

#[test]
fn short_volumes_are_dockers() {
    check("/data", Ok("volume - anonymous at /data"));
    check("/data/../x//", Ok("volume - anonymous at /x"));
    check("v1:/data", Ok("volume v1 at /data"));
    check("v1:/data:ro", Ok("volume v1 at /data ro"));
    check("v1:/data:nocopy,ro", Ok("volume v1 nocopy at /data ro"));
    check("/a:/b", Ok("bind /a make at /b"));
    check("/a:/b:ro,z", Ok("bind /a make at /b ro"));
    check("/a:/b:Z", Ok("bind /a make at /b"));
    check("/a:/b:rprivate,cached", Ok("bind /a make at /b"));
    check(".:/b", Ok("bind /here make at /b"));
    check("./x/../y:/b", Ok("bind /here/y make at /b"));
    check("..:/b", Ok("bind / make at /b"));
}

#[test]
fn short_volumes_that_are_wrong() {
    let spec = |text: &str, why: &str| {
        let expect = format!("invalid volume specification: '{text}'{why}");
        check(text, Err(&expect));
    };
    for text in ["", ":", "a:", ":/b", "/a:ro", "/a:rw,z", "a:b:c:d", "a::ro"] {
        spec(text, "");
    }
    spec(
        "v1:/",
        ": invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
    );
    spec(
        "/a:/x/..",
        ": invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
    );
    spec(
        "v1:data",
        ": invalid mount config for type \"volume\": invalid mount path: 'data' mount path must be absolute",
    );
    spec("v1:/data:rr", ": invalid mode: rr");
    spec("v1:/data:ro,rw", ": invalid mode: ro,rw");
    spec("/a:/data:nocopy", ": invalid mode: nocopy");
    for name in ["a/b", "v!", "_v", "-v"] {
        let error = volume(&format!("{name}:/x"), Path::new("/")).unwrap_err().0;
        assert!(error.contains("includes invalid characters for a local volume name"), "{error}");
    }
    let error = volume("/a:/b:rshared", Path::new("/")).unwrap_err().0;
    assert!(error.contains("`rshared` is not supported"), "{error}");
}

#[track_caller]
fn mount(text: &str, expect: Result<&str, &str>) {
    let found = syntax::mount(text).map(|mount| shown(&mount)).map_err(|error| error.0);
    let expect = expect.map_err(|why| match why.strip_prefix('!') {
        Some(why) => why.to_owned(),
        None => format!("invalid argument \"{text}\" for \"--mount\" flag: {why}"),
    });
    assert_eq!(found, expect.map(str::to_owned), "{text}");
}

#[test]
fn long_mounts_are_dockers() {
    mount("target=/a", Ok("volume - anonymous at /a"));
    mount("type=volume,src=v1,dst=/a,readonly", Ok("volume v1 at /a ro"));
    mount("Type=Volume,source=v1,destination=/a,ro=false", Ok("volume v1 at /a"));
    mount("type=volume,src=v1,dst=/a,volume-nocopy,volume-subpath=x/y", Ok("volume v1 nocopy sub=x/y at /a"));
    mount("src=v1,dst=/a,volume-label=k=v,\"volume-opt=o=a,b\"", Ok("volume v1 k=v o=a,b at /a"));
    mount("type=bind,src=/x/../y,dst=/a", Ok("bind /y at /a"));
    mount("type=bind,src=/x,dst=/a,bind-nonrecursive,bind-propagation=rprivate", Ok("bind /x flat at /a"));
    mount("type=tmpfs,dst=/a,tmpfs-size=64m,tmpfs-mode=700", Ok("tmpfs 67108864 700 at /a"));
    mount("type=tmpfs,dst=/a", Ok("tmpfs 0 1777 at /a"));
}

#[test]
fn long_mounts_that_are_wrong() {
    mount("", Err("invalid field '' must be a key=value pair"));
    mount("type=bind,foo", Err("invalid field 'foo' must be a key=value pair"));
    mount("type=bind,foo=1", Err("unexpected key 'foo' in 'foo=1'"));
    mount("type=bind,src=/x", Err("target is required"));
    mount("type=bind,src=/x,dst=/a,readonly=maybe", Err("invalid value for readonly: maybe"));
    mount(
        "type=bind,src=/x,dst=/a,volume-nocopy",
        Err("cannot mix 'volume-*' options with mount type 'bind'"),
    );
    mount("src=v1,dst=/a,bind-nonrecursive", Err("cannot mix 'bind-*' options with mount type 'volume'"));
    mount("type=bind,src=/x,dst=/a,tmpfs-size=1", Err("cannot mix 'tmpfs-*' options with mount type 'bind'"));
    mount("type=tmpfs,dst=/a,tmpfs-size=1q", Err("invalid value for tmpfs-size: 1q"));
    mount("type=tmpfs,dst=/a,tmpfs-mode=9", Err("invalid value for tmpfs-mode: 9"));
    mount(
        "type=volume,dst=/a,readonly",
        Err(
            "!invalid mount config for type \"volume\": must not set ReadOnly mode when using anonymous volumes",
        ),
    );
    mount("type=bind,dst=/a", Err("!invalid mount config for type \"bind\": field Source must not be empty"));
    mount(
        "type=bind,src=x,dst=/a",
        Err("!invalid mount config for type \"bind\": invalid mount path: 'x' mount path must be absolute"),
    );
    mount(
        "src=v1,dst=a",
        Err("!invalid mount config for type \"volume\": invalid mount path: 'a' mount path must be absolute"),
    );
    mount(
        "src=v1,dst=/",
        Err("!invalid mount config for type \"volume\": invalid specification: destination can't be '/'"),
    );
    mount(
        "type=tmpfs,src=x,dst=/a",
        Err("!invalid mount config for type \"tmpfs\": field Source must not be specified"),
    );
    let text = "src=v1,dst=/a,volume-subpath=../x";
    mount(
        text,
        Err("!invalid mount config for type \"volume\": the subpath must be relative and stay in the volume"),
    );
    mount("\"type=bind", Err("a quote is not closed"));
    mount(
        "type=npipe,dst=/a",
        Err("the mount type \"npipe\" is unknown: the types are bind, volume and tmpfs"),
    );
}

#[test]
fn targets_are_unique_whoever_names_them() {
    let wishes = |volumes: &[&str], mounts: &[&str], taken: &[&str]| {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let wishes = MountWishes { volumes: list(volumes), mounts: list(mounts), taken: list(taken) };
        wishes
            .read(Path::new("/here"))
            .map(|mounts| mounts.iter().map(shown).collect::<Vec<_>>())
            .map_err(|e| e.0)
    };
    let clash = Err("Duplicate mount point: /x".to_owned());
    assert_eq!(wishes(&["aa:/x", "bb:/x/"], &[], &[]), clash);
    assert_eq!(wishes(&["aa:/x"], &["dst=/x"], &[]), clash);
    assert_eq!(wishes(&["aa:/x"], &[], &["/x"]), clash);
    assert_eq!(
        wishes(&["aa:/x"], &["dst=/y"], &["/z"]),
        Ok(["volume aa at /x", "volume - anonymous at /y"].map(str::to_owned).to_vec())
    );
}

#[test]
fn an_images_volumes_come_last() {
    let own = vec![volume("aa:/x", Path::new("/")).unwrap()];
    let others = vec![volume("bb:/x", Path::new("/")).unwrap(), volume("bb:/y", Path::new("/")).unwrap()];
    let image = ["/y", "/z/", "relative", "/"].map(str::to_owned);
    let merged: Vec<String> = merge(own, others, &image).iter().map(shown).collect();
    assert_eq!(merged, ["volume aa at /x", "volume bb at /y", "volume - anonymous at /z"]);
    assert_eq!(volumes_from("c1:ro"), Ok(("c1", true)));
    assert_eq!(volumes_from("c1"), Ok(("c1", false)));
    assert!(volumes_from("c1:x").is_err() && volumes_from("").is_err());
}

#[test]
fn a_record_of_mounts_is_read_again() {
    let mounts = [volume("/data", Path::new("/")).unwrap(), volume("/a:/b:ro", Path::new("/")).unwrap()];
    let text = serde_json::to_string(&mounts).unwrap();
    assert_eq!(serde_json::from_str::<Vec<ContainerMount>>(&text).unwrap(), mounts);
}
