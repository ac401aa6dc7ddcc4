use super::*;
use crate::adapter::protocol::line::Done;

use serde_json::{Value, json};
use std::cell::RefCell;

/// What the output of a program comes to: its progress, whether it has a result, and what is wrong.
fn read_all(chunks: &[&[u8]]) -> (Vec<String>, Option<Answer>, Result<(), Fault>) {
    let told = RefCell::new(Vec::new());
    let progress = |text: &str| told.borrow_mut().push(text.to_owned());
    let mut output = Output::new(&PROGRAM);
    for chunk in chunks {
        if output.feed(chunk, &progress).is_break() {
            break;
        }
    }
    let (answer, fault) = output.close(&progress);
    (told.take(), answer, fault)
}

fn fault_of(text: &[u8]) -> String {
    read_all(&[text]).2.unwrap_err().detail
}

fn done_of(result: Value) -> Done {
    match read_all(&[result.to_string().as_bytes()]) {
        (_, Some(Answer::Done(done)), Ok(())) => done,
        (_, _, fault) => panic!("no result: {fault:?}"),
    }
}

#[test]
fn progress_and_one_result() {
    let text = b"{\"progress\": \"one\"}\n\n  {\"progress\": \" two\\tor\\n \"}\r\n{\"state\":{\"a\":1}}\n{\"progress\":\"late\"}";
    // Wherever the chunks part.
    for at in 0..text.len() {
        let (told, answer, fault) = read_all(&[&text[..at], &text[at..]]);
        assert_eq!(told, ["one", "two or", "late"]);
        assert_eq!(fault, Ok(()));
        let Some(Answer::Done(done)) = answer else {
            panic!("no result");
        };
        assert_eq!(Value::from(done.state.unwrap()), json!({"a": 1}));
        assert!(done.credentials.is_none());
    }
}

#[test]
fn an_object_may_go_over_several_lines() {
    let text = b"{\"progress\":\"one\"}\r\n{\r\n  \"progress\": \"{\\\"\"\n}\n\n{ \"state\":\n\n  {\"a\": [\n 1, \"}\"]\n}\n }\n{\"progress\":\"late\"}";
    for at in 0..text.len() {
        let (told, answer, fault) = read_all(&[&text[..at], &text[at..]]);
        assert_eq!(fault, Ok(()));
        assert_eq!(told, ["one", "{\"", "late"]);
        let Some(Answer::Done(done)) = answer else {
            panic!("no result");
        };
        assert_eq!(Value::from(done.state.unwrap()), json!({"a": [1, "}"]}));
    }
    // Each line is looked at once: an object of many lines takes no longer than another one.
    let long = format!(
        "{{\"state\": {{\"a\": [{}1]}}}}",
        "1,\n".repeat(MAX_OUTPUT / 4)
    );
    assert_eq!(read_all(&[long.as_bytes()]).2, Ok(()));
}

#[test]
fn the_user_is_not_told_the_keys_that_a_program_made_up() {
    let (.., fault) = read_all(&[b"{\"hunter22\": 7}"]);
    let fault = fault.unwrap_err();
    assert_eq!(fault.told, "line 1 of its output has an unknown key");
    assert_eq!(
        fault.detail,
        "line 1 of its output has the unknown key \"hunter22\""
    );
}

#[test]
fn an_empty_object_is_a_result_and_null_is_absent() {
    let done = done_of(json!({"credentials": null, "state": null}));
    assert!(done.credentials.is_none() && done.state.is_none());
    done_of(json!({}));
}

#[test]
fn a_failure_says_what_the_user_reads() {
    for (line, error, description, usable, repeatable) in [
        (
            json!({"error": "x", "description": " No\nroom. "}),
            "x",
            "No room.",
            None,
            None,
        ),
        (
            json!({"error": "No room."}),
            "No room.",
            "No room.",
            None,
            None,
        ),
        (
            json!({"error": "x", "description": "d", "instance_usable": false, "update_repeatable": true}),
            "x",
            "d",
            Some(false),
            Some(true),
        ),
    ] {
        let (_, answer, fault) = read_all(&[line.to_string().as_bytes()]);
        assert_eq!(fault, Ok(()));
        let Some(Answer::Refused(refused)) = answer else {
            panic!("no failure: {line}");
        };
        assert_eq!(refused.error, error);
        assert_eq!(refused.description, description);
        assert_eq!(refused.instance_usable, usable);
        assert_eq!(refused.update_repeatable, repeatable);
    }
}

#[test]
fn what_is_wrong_is_named_and_not_quoted() {
    let deep = format!("{{\"state\":{}1{}}}", "[".repeat(70), "]".repeat(70));
    for (text, wanted) in [
        ("", "printed no result"),
        ("\n \n", "printed no result"),
        ("{\"progress\":\"x\"}\n", "printed no result"),
        (
            "{}\nCREATE DATABASE secret\n",
            "line 2 of its output is not JSON from column 1 on; whatever is not JSON belongs on standard error",
        ),
        (
            "{\"credentials\":{\"password\":\"secret",
            "line 1 of its output is not JSON from column 34 on; whatever is not JSON belongs on standard error",
        ),
        (
            "{\n \"credentials\": secret\n}\n{}",
            "line 2 of its output is not JSON from column 17 on; whatever is not JSON belongs on standard error",
        ),
        (
            "{\n \"state\": {\n  \"a\": \"secret\"\n",
            "line 3 of its output is not JSON from column 15 on; whatever is not JSON belongs on standard error",
        ),
        (
            "{ echo secret\n{}\n",
            "line 1 of its output is not JSON from column 3 on; whatever is not JSON belongs on standard error",
        ),
        (
            "{\"state\": \"secret\n\"}\n",
            "line 1 of its output is not JSON from column 17 on; whatever is not JSON belongs on standard error",
        ),
        (
            "{}\n{\n  \"state\": {}\n}\n",
            "the object in lines 2 to 4 of its output is a second result",
        ),
        (
            "{\n  \"credential\": {\n  }\n}\n",
            "the object in lines 1 to 4 of its output has the unknown key \"credential\", did you mean \"credentials\"?",
        ),
        ("{}\n{}\n", "line 2 of its output is a second result"),
        (
            "{}\n{\"error\":\"x\"}\n",
            "line 2 of its output is a second result",
        ),
        (
            "[\"secret\"]",
            "line 1 of its output is an array, wanted an object",
        ),
        ("7", "line 1 of its output is a number, wanted an object"),
        (
            "{\"credentials\":\"secret\"}",
            "line 1 of its output has \"credentials\": found a string, wanted an object",
        ),
        (
            "{\"endpoints\":{}}",
            "line 1 of its output has \"endpoints\": found an object, wanted an array",
        ),
        (
            "{\"dashboard_url\":7}",
            "line 1 of its output has \"dashboard_url\": found a number, wanted a string",
        ),
        (
            "{\"progress\":0.4}",
            "line 1 of its output has \"progress\": found a number, wanted a string",
        ),
        (
            "{\"progress\":\"x\",\"state\":{}}",
            "line 1 of its output has \"state\", which does not go with its other keys",
        ),
        (
            "{\"error\":\"x\",\"credentials\":{}}",
            "line 1 of its output has \"credentials\", which does not go with its other keys",
        ),
        (
            "{\"credential\":{\"a\":\"secret\"}}",
            "line 1 of its output has the unknown key \"credential\", did you mean \"credentials\"?",
        ),
        (
            "{\"description\":\"secret\"}",
            "line 1 of its output has no \"error\" beside its other keys",
        ),
        (
            "{\"error\":\" \"}",
            "line 1 of its output has neither a \"description\" nor an \"error\" to tell",
        ),
        (
            "{\"error\":\"x\",\"instance_usable\":\"secret\"}",
            "line 1 of its output has \"instance_usable\": found a string, wanted true or false",
        ),
        (&deep, "line 1 of its output nests deeper than 64 levels"),
    ] {
        assert_eq!(fault_of(text.as_bytes()), wanted, "{text}");
    }
    assert_eq!(
        fault_of(b"\x7fELF\x02\xff\xfe\n"),
        "line 1 of its output is not text in UTF-8"
    );
}

#[test]
fn the_first_fault_counts_and_the_result_is_still_seen() {
    let (_, answer, fault) =
        read_all(&[b"oops\n{\"error\":\"x\",\"description\":\"No room.\"}\noops\n"]);
    assert!(fault.unwrap_err().told.starts_with("line 1 "));
    assert!(matches!(answer, Some(Answer::Refused(refused)) if refused.description == "No room."));
}

#[test]
fn output_is_bounded() {
    let chunk = vec![b'x'; 64 * 1024];
    let most = vec![chunk.as_slice(); MAX_OUTPUT / chunk.len()];
    assert!(read_all(&most).2.unwrap_err().told.starts_with("line 1 "));
    let more = [most, vec![b"x"]].concat();
    assert_eq!(
        read_all(&more).2.unwrap_err().told,
        "printed more than 1048576 bytes"
    );
}

#[test]
fn texts_for_the_user_are_bounded() {
    let long = json!({"progress": "é".repeat(LONGEST_TEXT)}).to_string();
    let (told, ..) = read_all(&[long.as_bytes()]);
    assert_eq!(told[0].len(), LONGEST_TEXT);
}

#[test]
fn what_a_platform_would_refuse_is_found() {
    let volume = |changes: Value| {
        let mut volume = json!({
            "driver": "nfs", "container_dir": "/x", "mode": "rw", "device_type": "shared",
            "device": {"volume_id": "v", "mount_config": null}
        });
        volume
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        json!({"volume_mounts": [volume]})
    };
    for (result, wanted) in [
        (
            json!({"endpoints": [{"host": "h", "ports": ["1", "5-9"], "protocol": null}]}),
            Ok(()),
        ),
        (volume(json!({})), Ok(())),
        (
            json!({"endpoints": [{"host": "h", "ports": []}]}),
            Err("endpoints[0].ports: found an empty array, wanted at least one element"),
        ),
        (
            json!({"endpoints": [{"ports": ["1"]}]}),
            Err("endpoints[0].host: found nothing, wanted a string that is not empty"),
        ),
        (
            json!({"endpoints": ["secret"]}),
            Err("endpoints[0]: found a string, wanted an object"),
        ),
        (
            volume(json!({"mode": "rx"})),
            Err("volume_mounts[0].mode: found another string, wanted \"r\" or \"rw\""),
        ),
        (
            json!({"route_service_url": "http://x"}),
            Err("route_service_url: found another string, wanted an https URL"),
        ),
        (
            json!({"metadata": {"expires_at": "tomorrow"}}),
            Err(
                "metadata.expires_at: found another string, wanted a time such as \"2019-12-31T23:59:59.0Z\"",
            ),
        ),
    ] {
        let bound = done_of(result.clone()).into_bound();
        assert_eq!(bound.map(|_| ()), wanted.map_err(str::to_owned), "{result}");
    }
    let done = done_of(json!({"metadata": {"labels": []}}));
    assert_eq!(
        done.into_provisioned().unwrap_err(),
        "metadata.labels: found an array, wanted an object"
    );
}

#[test]
fn null_within_an_object_of_the_specification_is_left_out() {
    let done = done_of(json!({
        "endpoints": [{"host": "h", "ports": ["1"], "protocol": null}],
        "metadata": {"expires_at": null}
    }));
    let bound = done.into_bound().unwrap();
    assert_eq!(
        Value::from(bound.endpoints.unwrap()),
        json!([{"host": "h", "ports": ["1"]}])
    );
    assert_eq!(Value::from(bound.metadata.unwrap()), json!({}));
}
