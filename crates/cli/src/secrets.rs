//! `--secret` and `--ssh`: what commands of the Dockerfile may ask for. They are written as docker build takes them.

use std::path::PathBuf;

use zuwai_builder::{AgentRequest, SecretRequest, SecretSource};

use crate::args::{UsageError, Values};
use crate::environment::Environment;

/// Every `--secret`. One with neither a file nor a variable is the variable of its id, else the file of that name.
pub(crate) fn secrets(values: &Values, environment: &Environment) -> Result<Vec<SecretRequest>, UsageError> {
    values.list("secret").iter().map(|text| secret(text, environment)).collect()
}

fn secret(text: &str, environment: &Environment) -> Result<SecretRequest, UsageError> {
    let wrong = |reason: &str| {
        UsageError::new(format!("--secret: {text}: {reason}")).hint("write --secret id=ID,src=FILE or id=ID,env=NAME")
    };
    let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(wrong(&format!("{field} is not KEY=VALUE")));
        };
        let place = match key.trim().to_ascii_lowercase().as_str() {
            "id" => &mut id,
            "type" => &mut kind,
            "src" | "source" => &mut file,
            "env" => &mut variable,
            other => return Err(wrong(&format!("there is no key {other}"))),
        };
        *place = Some(value.to_owned());
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("id is missing"))?;
    match kind.as_deref() {
        None | Some("file" | "env") => {}
        Some(other) => return Err(wrong(&format!("type is file or env, and not {other}"))),
    }
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = file.take().or_else(|| Some(id.clone()));
    }
    let source = match (file, variable) {
        (Some(_), Some(_)) => return Err(wrong("it is a file or a variable, and not both")),
        (Some(file), None) => SecretSource::File(PathBuf::from(file)),
        (None, Some(name)) => {
            let value = environment.value(&name).ok_or_else(|| wrong(&format!("{name} is not set")))?;
            SecretSource::Value(value.into_bytes())
        }
        (None, None) => match environment.value(&id) {
            Some(value) => SecretSource::Value(value.into_bytes()),
            None => SecretSource::File(PathBuf::from(&id)),
        },
    };
    Ok(SecretRequest { id, source })
}

/// Every `--ssh`.
pub(crate) fn agents(values: &Values, environment: &Environment) -> Result<Vec<AgentRequest>, UsageError> {
    values.list("ssh").iter().map(|text| agent(text, environment)).collect()
}

fn agent(text: &str, environment: &Environment) -> Result<AgentRequest, UsageError> {
    let (id, socket) = text.split_once('=').map_or((text, None), |(id, socket)| (id, Some(socket)));
    let id = if id.is_empty() { "default" } else { id }.to_owned();
    let socket = match socket.filter(|socket| !socket.is_empty()) {
        Some(socket) => socket.to_owned(),
        None => environment.value("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).ok_or_else(|| {
            UsageError::new(format!("--ssh: {id} names no socket, and SSH_AUTH_SOCK is not set"))
                .hint("start an ssh-agent, or write --ssh ID=SOCKET")
        })?,
    };
    Ok(AgentRequest { id, socket: PathBuf::from(socket) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{good, message};

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let environment = [("VAR", "value"), ("named", "by id")];
        let secret = |text: &str| good(&["--secret", text], &environment).build.secrets.remove(0);
        let file = |path: &str| SecretSource::File(PathBuf::from(path));
        let value = |text: &str| SecretSource::Value(text.as_bytes().to_vec());
        for (text, id, source) in [
            ("id=a,src=/x", "a", file("/x")),
            ("id=a,source=x", "a", file("x")),
            ("type=file,id=a,src=x", "a", file("x")),
            ("id=a,env=VAR", "a", value("value")),
            ("type=env,id=a,src=VAR", "a", value("value")),
            ("type=env,id=VAR", "VAR", value("value")),
            ("id=named", "named", value("by id")),
            ("id=other", "other", file("other")),
        ] {
            assert_eq!(secret(text), SecretRequest { id: id.to_owned(), source }, "{text}");
        }
        assert!(!format!("{:?}", secret("id=a,env=VAR")).contains("value"));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for (text, reason) in [
            ("x", "x is not KEY=VALUE"),
            ("src=x", "id is missing"),
            ("id=a,scr=x", "there is no key scr"),
            ("id=a,type=x", "type is file or env, and not x"),
            ("id=a,env=NONE", "NONE is not set"),
            ("id=a,env=A,src=b", "it is a file or a variable, and not both"),
        ] {
            assert_eq!(message(&["--no-push", "--secret", text]), format!("--secret: {text}: {reason}"));
        }
    }

    #[test]
    fn an_agent_is_a_socket() {
        let environment = [("SSH_AUTH_SOCK", "/run/agent")];
        let agent = |text: &str| {
            let agent = good(&["--ssh", text], &environment).build.agents.remove(0);
            (agent.id, agent.socket)
        };
        assert_eq!(agent("default"), ("default".into(), "/run/agent".into()));
        assert_eq!(agent("work=/x"), ("work".into(), "/x".into()));
        assert_eq!(agent("work="), ("work".into(), "/run/agent".into()));
        assert!(message(&["--no-push", "--ssh=default"]).contains("SSH_AUTH_SOCK is not set"));
    }
}
