//! The headings that the options of a build stand under in its help, by the names of their fields.
//!
//! Only help needs them, so they cost nothing else anything.

/// Heading, and what stands under it.
pub const HEADINGS: [(&str, &[&str]); 7] = [
    ("Input", &["file", "build_args", "targets", "contexts", "pull", "check", "call", "dry_run", "why"]),
    ("Image", &["tags", "labels", "platform", "annotations"]),
    (
        "Cache",
        &["no_cache", "no_cache_filter", "no_cache_mounts", "cache_from", "cache_to", "cache_mount_id"],
    ),
    (
        "Steps",
        &[
            "network",
            "volumes",
            "secrets",
            "agents",
            "ca_cert",
            "extra_hosts",
            "add_host",
            "hosts",
            "allow",
            "dns",
            "isolation",
            "security_opt",
            "security_options",
            "on_failure",
            "step_timeout",
            "retry",
            "retry_delay",
            "snapshotter",
        ],
    ),
    (
        "Limits",
        &[
            "memory",
            "memory_swap",
            "cpu_period",
            "cpu_quota",
            "cpu_shares",
            "cpuset_cpus",
            "cpuset_mems",
            "cgroup_parent",
            "shm_size",
            "ulimits",
            "ulimit",
            "resources",
            "resource",
        ],
    ),
    ("Output", &["output", "outputs", "push", "load", "iidfile", "metadata_file"]),
    ("Progress", &["quiet", "progress"]),
];
