//! Reads and sets the states of a server's events.

use backstop_policy::scheduled_events::PresentEvent;
use backstop_types::scheduled_events::{EventName, EventState, RecordedEvent, ServerEvents};
use chrono::DateTime;

use super::connection::Connection;
use super::dialect::quote_text;
use super::error::{SqlCause, SqlError};
use super::instance_state::gtids;

const EVENT_STATES: &str = "SELECT EVENT_SCHEMA, EVENT_NAME, STATUS FROM information_schema.EVENTS \
     ORDER BY EVENT_SCHEMA, EVENT_NAME";

/// Selects the events, each with the time, in seconds since 1970, after which it never runs again.
/// `ON SCHEDULE` stores its times in UTC, and shows them in the event's own time zone.
const EVENTS: &str = "SELECT EVENT_SCHEMA, EVENT_NAME, STATUS, DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, \
     DATABASE_COLLATION <> DEFAULT_COLLATION_NAME, \
     UNIX_TIMESTAMP(CONVERT_TZ(COALESCE(EXECUTE_AT, ENDS), TIME_ZONE, @@session.time_zone)) \
     FROM information_schema.EVENTS JOIN information_schema.SCHEMATA ON SCHEMA_NAME = EVENT_SCHEMA ORDER BY EVENT_SCHEMA, EVENT_NAME";

type EventRow = (String, String, String, String, String, String, bool, Option<f64>);

/// Reads the states of all events and of the scheduler. Needs the privilege EVENT.
///
/// # Errors
/// See [`SqlCause`].
pub async fn read_event_states(session: &mut Connection) -> Result<ServerEvents, SqlError> {
    // Read before the events: changes that are committed in between are found in the archive, and
    // to apply one twice does no harm.
    let (executed, scheduler): (String, String) =
        session.one("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.event_scheduler").await?;
    let rows: Vec<(String, String, String)> = session.query(EVENT_STATES).await?;
    let events = rows.into_iter().map(|(schema, event, status)| RecordedEvent {
        name: EventName { schema, event },
        state: EventState::of(&status),
    });
    Ok(ServerEvents { scheduler, executed: gtids(session, &executed)?, events: events.collect() })
}

/// Reads all events of a recovered server.
pub(super) async fn read_events(session: &mut Connection) -> Result<Vec<PresentEvent>, SqlError> {
    let rows: Vec<EventRow> = session.query(EVENTS).await?;
    let event =
        |(schema, event, status, definer, client, connection, recollated, last): EventRow| PresentEvent {
            name: EventName { schema, event },
            state: EventState::of(&status),
            definer,
            charsets: (client, connection),
            recollated,
            last: last.and_then(|last| DateTime::from_timestamp(last as i64, 0)),
        };
    Ok(rows.into_iter().map(event).collect())
}

/// Sets the state of an event, in a transaction of the server's that its replicas receive. `ALTER
/// EVENT` also records the session's character set as the event's, by which the server reads the
/// event's body; the statement therefore runs with the event's own character set.
pub(super) async fn set_event_state(
    session: &mut Connection,
    event: &PresentEvent,
    state: EventState,
) -> Result<(), SqlError> {
    let (client, connection) = (&event.charsets.0, &event.charsets.1);
    let statement = event.statement(state);
    let encoded = encoded(session, &statement, client).await?;
    let begin = format!(
        "SET SESSION sql_log_bin = 1, collation_connection = {}, character_set_client = {}",
        quote_text(connection),
        quote_text(client)
    );
    let altered = match session.run(&begin).await {
        Ok(()) => session.run_bytes("ALTER EVENT", encoded).await,
        Err(error) => Err(error),
    };
    // These keywords read alike in every character set that a client can have.
    session.run("SET NAMES utf8mb4").await?;
    session.run("SET SESSION sql_log_bin = 0").await?;
    altered
}

/// Encodes a statement in a character set, if that set can represent it.
async fn encoded(session: &mut Connection, statement: &str, charset: &str) -> Result<Vec<u8>, SqlError> {
    let charset: String = charset.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let text = quote_text(statement);
    let sql = format!(
        "SELECT CAST(CONVERT({text} USING {charset}) AS BINARY), \
         BINARY CONVERT(CONVERT({text} USING {charset}) USING utf8mb4) = BINARY {text}"
    );
    let (bytes, same): (Vec<u8>, u8) = session.one(&sql).await?;
    if same == 1 {
        return Ok(bytes);
    }
    let what = format!("the event's character set {charset} cannot represent its name");
    Err(SqlError { doing: "write an ALTER EVENT".to_owned(), cause: SqlCause::Shape(what) })
}
