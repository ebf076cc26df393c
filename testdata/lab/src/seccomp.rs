//! The system call filter of the strict container: what Docker's and Kubernetes' default profiles refuse to a container
//! without added capabilities, as far as a builder could be tempted to use it.

use serde_json::{Value, json};

/// Refused with EPERM, as those profiles do.
const FORBIDDEN: &[&str] = &[
    "unshare",
    "setns",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "move_mount",
    "open_tree",
    "mount_setattr",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
];

/// Refused with ENOSYS, so that a C library falls back: what `clone3` is asked for cannot be seen by a filter.
const UNKNOWN: &[&str] = &["clone3", "fanotify_init", "bpf", "userfaultfd"];

/// The flags of `clone` that make a new namespace.
const NAMESPACES: &[u64] = &[
    0x0002_0000, // mount
    0x0200_0000, // cgroup
    0x0400_0000, // uts
    0x0800_0000, // ipc
    0x1000_0000, // user
    0x2000_0000, // pid
    0x4000_0000, // network
];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The profile, in the form that podman and the other engines read.
pub fn strict() -> Value {
    let refuse = |names: &[&str], errno: u32, arguments: Value| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": arguments});
    let mut rules = vec![refuse(FORBIDDEN, EPERM, json!([])), refuse(UNKNOWN, ENOSYS, json!([]))];
    // One rule for each flag: conditions inside a rule must all hold, and any one flag is enough to refuse.
    rules.extend(NAMESPACES.iter().map(|flag| {
        let set = json!([{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}]);
        refuse(&["clone"], EPERM, set)
    }));
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}
