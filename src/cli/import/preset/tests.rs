//! Files made by hand in the programs' formats; no file of a real account is in the repository.

use super::*;
use crate::cli::import::mapping::Mapping;
use crate::cli::import::reader::FileRows;
use crate::cli::import::snapshot::Snapshot;
use crate::cli::import::{FileFormat, row};

/// The calls with their keys, the refusals, and the counts of passed-over lines.
struct Read {
    calls: Vec<(String, Record)>,
    refused: Vec<String>,
    passed_over: Vec<(String, u64)>,
}

fn read_with(preset: Preset, set: &str, format: FileFormat, text: &str) -> anyhow::Result<Read> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file");
    std::fs::write(&path, text)?;
    let set = if set.is_empty() { vec![] } else { vec![set.to_owned()] };
    let mapping = Mapping { preset: Some(preset), form: row::Form::default(), ..Mapping::parse(&[], &set)? };
    let mut rows = FileRows::open(&Snapshot::take(&path)?, format, mapping)?;
    let (mut calls, mut refused) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next_row()? {
        match row.record {
            Ok(record) => calls.push((row.key.unwrap(), record)),
            Err(error) => refused.push(error.to_string()),
        }
    }
    let passed_over = rows.passed_over().iter().map(|(kind, lines)| (kind.clone(), *lines)).collect();
    Ok(Read { calls, refused, passed_over })
}

fn read(preset: Preset, format: FileFormat, text: &str) -> Read {
    read_with(preset, "", format, text).unwrap()
}

fn cost(record: &Record) -> Option<&str> {
    record.cost_usd.as_deref()
}

#[test]
fn claude_codes_answers_are_calls_and_the_rest_of_a_transcript_is_counted() {
    let text = r#"{"type":"summary","summary":"x","leafUuid":"u"}
{"type":"user","sessionId":"s","message":{"role":"user","content":"hello"},"uuid":"u1","timestamp":"2026-08-10T10:00:00.000Z"}
{"type":"assistant","sessionId":"s","cwd":"/p","requestId":"req_1","timestamp":"2026-08-10T10:00:01.500Z","message":{"id":"msg_1","model":"claude-sonnet-4-5-20250929","content":[{"type":"text","text":"a"}],"usage":{"input_tokens":3,"cache_creation_input_tokens":1000,"cache_read_input_tokens":500,"cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":800},"output_tokens":1,"service_tier":"standard"}}}
{"type":"assistant","sessionId":"s","requestId":"req_2","timestamp":"2026-08-10T10:00:02Z","message":{"id":"msg_bdrk_2","model":"claude-sonnet-4-5","usage":{"input_tokens":7,"output_tokens":9}}}
{"type":"assistant","sessionId":"s","timestamp":"2026-08-10T10:00:03Z","message":{"id":"m3","model":"<synthetic>","usage":{"input_tokens":0,"output_tokens":0}}}
"#;
    let found = read_with(Preset::ClaudeCode, "user_id=u-42", FileFormat::Ndjson, text).unwrap();
    assert_eq!((found.calls.len(), &found.refused), (2, &vec![]));
    let (key, record) = &found.calls[0];
    assert_eq!((&**key, &*record.request_id, &*record.user_id), ("msg_1:req_1", "req_1", "u-42"));
    assert_eq!(record.occurred_at, Some(1_786_356_001_500_000));
    assert_eq!((&*record.provider, &*record.app, cost(record)), ("claude", "claude-code", None));
    let tokens = (record.input_tokens, record.output_tokens, record.cache_read_tokens);
    assert_eq!((tokens, record.cache_write_5m_tokens, record.cache_write_1h_tokens), ((3, 1, 500), 200, 800));
    assert_eq!(record.metadata.as_deref(), Some(r#"{"cwd":"/p","sessionId":"s"}"#));
    assert_eq!((&*found.calls[1].1.platform, &*found.calls[1].1.request_id), ("bedrock", "req_2"));
    let kinds = ["<synthetic>", "summary", "user"].map(|kind| (kind.to_owned(), 1));
    assert_eq!(found.passed_over, kinds);
}

#[test]
fn litellms_spend_is_the_cost_unless_it_is_a_zero_for_want_of_a_price() {
    let text = r#"request_id,call_type,spend,total_tokens,prompt_tokens,completion_tokens,startTime,endTime,model,custom_llm_provider,user,end_user,metadata,cache_hit,status,request_duration_ms
r1,acompletion,0.0072,10100,10000,100,2026-08-10 10:00:00.25,x,claude-sonnet-4-5,anthropic,proxy,u-1,"{""usage_object"": {""cache_read_input_tokens"": 9000}}",False,success,1250
r2,acompletion,0.0,1100,1000,100,2026-08-10T10:00:00Z,x,house-model,openai,proxy,,{},False,success,
r3,acompletion,0.0,1100,1000,100,2026-08-10T10:00:00Z,x,gpt-4o,openai,proxy,,{},True,success,
r4,acompletion,0.0,0,0,0,2026-08-10T10:00:00Z,x,gpt-4o,openai,proxy,,"{""error_information"": {""error_code"": ""429""}}",False,failure,
r5,acompletion,0.1,0,10,0,2026-08-10T10:00:00Z,x,gpt-4o,openai,,,"{""additional_usage_values"": {""cache_read_input_tokens"": 20}}",False,success,
"#;
    let found = read(Preset::LitellmSpendLogs, FileFormat::Csv, text);
    let first = &found.calls[0].1;
    assert_eq!(
        (&*found.calls[0].0, &*first.provider, &*first.user_id, cost(first)),
        ("r1", "anthropic", "u-1", Some("0.0072"))
    );
    assert_eq!((first.input_tokens, first.cache_read_tokens, first.output_tokens), (1000, 9000, 100));
    assert_eq!((first.latency_ms, first.occurred_at), (Some(1250), Some(1_786_356_000_250_000)));
    let costs: Vec<_> = found.calls[1..].iter().map(|(_, record)| (cost(record), record.status)).collect();
    assert_eq!(costs, [(None, 200), (Some("0"), 200), (Some("0"), 429)]);
    assert_eq!(found.calls[1].1.user_id, "proxy");
    assert!(found.refused[0].contains("prompt_tokens are 10, and more than that was cached"), "{:?}", found.refused);
    // The same call in the form of the proxy's API.
    let line = r#"{"request_id":"r1","spend":7.2e-3,"prompt_tokens":10000,"completion_tokens":100,"startTime":"2026-08-10T10:00:00.250Z","model":"claude-sonnet-4-5","custom_llm_provider":"anthropic","end_user":"u-1","metadata":{"usage_object":{"prompt_tokens_details":{"cached_tokens":9000}},"user_api_key_team_alias":"search"},"api_key":"88dc28d0","team_id":"t-1","request_tags":["job:7","nightly","a:b:c"]}"#;
    let lines = read(Preset::LitellmSpendLogs, FileFormat::Ndjson, line);
    let of =
        |record: &Record| (record.input_tokens, record.cache_read_tokens, record.cost_usd.clone(), record.occurred_at);
    assert_eq!(of(&lines.calls[0].1), of(first));
    let tags: Vec<(&str, &str)> = lines.calls[0].1.tags.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(tags, [("a", "b:c"), ("api_key", "88dc28d0"), ("job", "7"), ("nightly", "true"), ("team", "search")]);
}

#[test]
fn openrouters_activity_has_the_charge_and_the_own_keys_together() {
    let text = "generation_id,created_at,cost_total,cost_web_search,cost_cache,byok_usage_inference,tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached,model_permaslug,provider_name,user,generation_time_ms,app_name\n\
        gen-1,2026-08-10 10:00:00.5,0.0045,0,0,0,1000,100,40,0,anthropic/claude-sonnet-4.5,Anthropic,u-1,1200,chat\n\
        gen-2,2026-08-10 10:00:01,0.0002,0,0,0.004,1000,100,0,900,openai/gpt-4o,OpenAI,,,\n";
    let found = read(Preset::OpenrouterActivity, FileFormat::Csv, text);
    let (first, second) = (&found.calls[0].1, &found.calls[1].1);
    assert_eq!(
        (&*first.provider, &*first.model, &*first.user_id),
        ("openrouter", "anthropic/claude-sonnet-4.5", "u-1")
    );
    assert_eq!(
        (cost(first), first.output_tokens, first.latency_ms, &*first.app),
        (Some("0.0045"), 100, Some(1200), "chat")
    );
    assert_eq!((cost(second), second.input_tokens, second.cache_read_tokens), (Some("0.0042"), 100, 900));
    assert_eq!(first.occurred_at, Some(1_786_356_000_500_000));
}

#[test]
fn langfuses_generations_are_calls_and_a_count_without_a_bucket_leaves_them_unpriced() {
    let text = r#"{"id":"o1","trace_id":"t","type":"GENERATION","start_time":"2026-08-10 10:00:00.000000","provided_model_name":"claude-sonnet-4-5","usage_details":{"input":10,"output":20,"input_cached_tokens":30,"input_cache_creation":40,"total":100},"total_cost":null,"user_id":"u-1"}
{"id":"o2","type":"SPAN","start_time":"2026-08-10 10:00:00","usage_details":{}}
{"id":"o3","type":"AGENT","start_time":"2026-08-10 10:00:00","usage_details":{"input":5}}
{"id":"o4","type":"GENERATION","startTime":"2026-08-10T10:00:00Z","model":"gpt-4o","usageDetails":{"input":"10","video_seconds":3},"calculatedTotalCost":0.25,"level":"ERROR"}
{"id":"o5","type":"GENERATION","startTime":"2026-08-10T10:00:00Z","model":"gpt-4o","usageDetails":{"input":10,"input_cached_tokens":4,"output":2,"total":12},"totalCost":0}
{"id":"o6","type":"GENERATION","startTime":"2026-08-10T10:00:00Z","model":"house","usageDetails":{"input":1}}
"#;
    let found = read(Preset::Langfuse, FileFormat::Ndjson, text);
    let first = &found.calls[0].1;
    assert_eq!((&*found.calls[0].0, &*first.provider, &*first.user_id, cost(first)), ("o1", "claude", "u-1", None));
    let tokens = (first.input_tokens, first.output_tokens, first.cache_read_tokens, first.cache_write_5m_tokens);
    assert_eq!(tokens, (10, 20, 30, 40));
    let mark = |record: &Record| not_understood(record);
    assert_eq!(mark(first), None);
    let second = &found.calls[1].1;
    assert_eq!((cost(second), second.status, mark(second).as_deref()), (Some("0.25"), 500, Some("video_seconds")));
    let third = &found.calls[2].1;
    assert_eq!((cost(third), mark(third).as_deref()), (None, Some("usage_details.total")));
    assert_eq!(found.refused.len(), 1);
    assert!(found.refused[0].contains("give --set provider=NAME"), "{:?}", found.refused);
    let passed_over = ["AGENT, with tokens", "SPAN"].map(|kind| (kind.to_owned(), 1));
    assert_eq!(found.passed_over, passed_over);
    let named = read_with(Preset::Langfuse, "provider=vllm", FileFormat::Ndjson, text).unwrap();
    assert_eq!((named.calls.len(), &*named.calls[3].1.provider), (4, "vllm"));
}

#[test]
fn langfuses_table_is_read_as_its_export_writes_it() {
    let text = r#""id","traceId","projectId","environment","type","startTime","endTime","name","metadata","parentObservationId","level","statusMessage","version","input","output","modelParameters","completionStartTime","promptId","createdAt","updatedAt","usageDetails","costDetails","providedCostDetails","model","internalModelId","promptName","promptVersion","latency","timeToFirstToken","inputCost","outputCost","totalCost","inputUsage","outputUsage","totalUsage","traceName","traceTags","traceTimestamp","userId","comments"
"o1","t1","p","default","GENERATION","2026-08-10T10:00:00.250Z","2026-08-10T10:00:01.000Z","chat","{}","","DEFAULT","","","""hello""","""hi""","{}","","","2026-08-10T10:00:02.000Z","2026-08-10T10:00:02.000Z","{""input"":10,""output"":20,""input_cached_tokens"":30,""total"":60}","{""input"":0.1,""total"":0.3}","{}","gpt-4o","","","","0.75","","0.1","0.2","0.3","10","20","60","web","[]","2026-08-10T10:00:00.000Z","u-1","[]"
"o2","t1","p","default","SPAN","2026-08-10T10:00:00.250Z","","tool","{}","","DEFAULT","","","","","{}","","","","","{}","{}","{}","","","","","","","","","0","0","0","0","web","[]","","u-1","[]"
"#;
    let found = read(Preset::Langfuse, FileFormat::Csv, text);
    let (key, call) = &found.calls[0];
    assert_eq!((&**key, &*call.provider, &*call.model, &*call.user_id), ("o1", "openai", "gpt-4o", "u-1"));
    assert_eq!((call.input_tokens, call.output_tokens, call.cache_read_tokens, cost(call)), (10, 20, 30, Some("0.3")));
    assert_eq!(call.occurred_at, Some(1_786_356_000_250_000));
    assert_eq!((not_understood(call), found.passed_over), (None, vec![("SPAN".to_owned(), 1)]));
}

fn not_understood(record: &Record) -> Option<String> {
    tallyd_intake::not_understood::of(record.metadata.as_deref()?).map(|name| name.into_owned())
}

#[test]
fn a_file_of_another_program_is_refused_by_what_it_lacks() {
    let said = |preset, format, text: &str| format!("{:#}", read_with(preset, "", format, text).err().unwrap());
    let wrong = said(Preset::LitellmSpendLogs, FileFormat::Csv, "request_id,model\n1,m\n");
    assert!(wrong.ends_with("it lacks startTime, spend; its keys are request_id, model"), "{wrong}");
    let wrong = said(Preset::Langfuse, FileFormat::Ndjson, "{\"id\":1}\n");
    assert!(wrong.contains("it lacks start_time or startTime, usage_details or usageDetails"), "{wrong}");
}
