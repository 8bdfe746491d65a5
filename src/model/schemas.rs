//! What the model's texts and numbers look like from outside, for the description of the HTTP API. Each is written here once
//! more, as a pattern: what is checked stands beside the type.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{Object, ObjectBuilder, Schema, SchemaType, Type},
    },
};

use super::{
    Body, Cid, ConvId, DeviceId, MAX_NAME, Reaction, RoomId, SessionId, UserId,
    room::{Lifetime, Topic},
};

/// No control characters.
const PRINTABLE: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";

fn text(pattern: &str, most: usize, about: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(about))
        .pattern(Some(pattern))
        .min_length(Some(1))
        .max_length(Some(most))
        .build()
}

fn named(about: &str) -> Object {
    text("^[A-Za-z0-9_-]{1,64}$", MAX_NAME, about)
}

macro_rules! schemas {
    ($($name:ident => $schema:expr;)*) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    Schema::Object($schema).into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
            }
        )*
    };
}

schemas! {
    UserId => named("A user or a service.");
    DeviceId => named("A device of a user.");
    RoomId => named("A room.");
    Cid => text(PRINTABLE, MAX_NAME, "The sender's id for a message, unique in the conversation: what makes a retry safe.");
    ConvId => text(
        "^(dm:[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,64}|room:[A-Za-z0-9_-]{1,64})$",
        2 * MAX_NAME + 4,
        "A conversation: `dm:<a>:<b>` with the smaller name first, or `room:<id>`.",
    );
    SessionId => text("^.+$", MAX_NAME, "A live connection of a device.");
    Reaction => text(PRINTABLE, Reaction::MOST, "What somebody reacts with: at most 64 bytes.");
    Topic => text(PRINTABLE, Topic::MOST, "What a room is about.");
    Lifetime => ObjectBuilder::new()
        .schema_type(Type::Integer)
        .description(Some("Seconds, at most a year."))
        .minimum(Some(1.0))
        .maximum(Some(f64::from(Lifetime::LONGEST)))
        .build();
    Body => ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("Any value that JSON can carry: integers of 64 bits, at most 64 levels deep."))
        .build();
}
