//! `natter rooms`: rooms of a user, and what may be done with them.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::{Global, identity::Identity, print, table::table};
use crate::{
    client::{Client, ClientOptions, NewRoom, RequestError},
    model::{
        RoomId, UserId,
        room::{Lifetime, Reach, Role, Topic},
    },
    protocol::ask::{RoomChanged, RoomLog, RoomMember, RoomView},
};

/// Arguments of `natter rooms`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    identity: Identity,
    /// Print JSON: one object for a change, one line for each room or member
    #[arg(long, global = true)]
    json: bool,
    /// The device to connect as
    #[arg(long, value_name = "NAME", default_value = "natter-rooms", global = true)]
    device: String,
}

const EXAMPLES: &str = "\
Examples:
  natter rooms list --user alice
  natter rooms create lobby --topic \"everybody\" --public --user alice
  natter rooms join lobby --user bob && natter send --user bob --to '#lobby' hello
  natter rooms invite board carol --user alice
  natter rooms role lobby bob moderator --user alice
  natter rooms lifetime lobby 86400 --user alice      messages last a day from now on
  natter rooms members lobby --json --user alice | jq -r .user";

#[derive(Debug, Subcommand)]
// `user` is whom the command connects as.
enum What {
    /// The rooms that the user is in, or is invited to
    List,
    /// One room
    Show {
        /// Its name
        room: RoomId,
    },
    /// The members of a room, and who is invited
    Members {
        /// Its name
        room: RoomId,
    },
    /// Make a room; the user owns it
    Create {
        /// Its name [default: one of its own]
        room: Option<RoomId>,
        /// What it is about
        #[arg(long)]
        topic: Option<Topic>,
        /// Everybody may join
        #[arg(long)]
        public: bool,
        /// Members may read all of the log, not only what follows their join
        #[arg(long)]
        all_history: bool,
        /// Messages last no longer than so many seconds
        #[arg(long, value_name = "SECS")]
        lifetime: Option<Lifetime>,
    },
    /// Enter a room that is public, or to which the user is invited
    Join {
        /// Its name
        room: RoomId,
    },
    /// Leave a room, or decline an invitation
    Leave {
        /// Its name
        room: RoomId,
    },
    /// Let somebody join
    Invite {
        /// The room's name
        room: RoomId,
        /// Whom
        #[arg(value_name = "USER")]
        whom: UserId,
    },
    /// Put somebody out, or take an invitation back
    Kick {
        /// The room's name
        room: RoomId,
        /// Whom
        #[arg(value_name = "USER")]
        whom: UserId,
    },
    /// Give a member another role
    Role {
        /// The room's name
        room: RoomId,
        /// Whose
        #[arg(value_name = "USER")]
        whom: UserId,
        /// member, moderator or owner
        #[arg(value_parser = role)]
        role: Role,
    },
    /// Give a room another topic, or none
    Topic {
        /// The room's name
        room: RoomId,
        /// What it is about from now on
        topic: Option<Topic>,
    },
    /// Say how long messages last from now on, or that they stay
    Lifetime {
        /// The room's name
        room: RoomId,
        /// At most so long
        #[arg(value_name = "SECS")]
        lifetime: Option<Lifetime>,
    },
}

fn role(text: &str) -> Result<Role, String> {
    let roles = [("member", Role::Member), ("moderator", Role::Moderator), ("owner", Role::Owner)];
    let found = roles.into_iter().find(|(word, _)| *word == text);
    found.map(|(_, role)| role).ok_or_else(|| "must be member, moderator or owner".into())
}

/// Rooms, or members, that are asked for at once.
const PAGE: usize = 100;

/// Runs the command.
///
/// # Errors
/// When there is no connection, or the node refused.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    // Messages for this device are left unacknowledged: nobody has seen them.
    let options = ClientOptions { auto_ack: false, ..args.identity.options(global, &args.device)? };
    let client = args.identity.connect(options).await?;
    let done = args.what.run(&client, args.json).await;
    client.close().await;
    print(&done?)?;
    Ok(ExitCode::SUCCESS)
}

impl What {
    async fn run(self, client: &Client, json: bool) -> anyhow::Result<String> {
        let changed = match self {
            Self::List => return rooms(&all_rooms(client).await?, json),
            Self::Show { room } => return rooms(&[client.room(&room).await?], json),
            Self::Members { room } => return members(&all_members(client, &room).await?, json),
            Self::Create { room, topic, public, all_history, lifetime } => {
                let history = if all_history { Reach::All } else { Reach::Join };
                client.create_room(NewRoom { room, topic, public, history, lifetime }).await
            }
            Self::Join { room } => client.join_room(&room).await,
            Self::Leave { room } => client.leave_room(&room).await,
            Self::Invite { room, whom } => client.invite(&room, &whom).await,
            Self::Kick { room, whom } => client.kick(&room, &whom).await,
            Self::Role { room, whom, role } => client.set_role(&room, &whom, role).await,
            Self::Topic { room, topic } => client.set_topic(&room, topic).await,
            Self::Lifetime { room, lifetime } => client.set_lifetime(&room, lifetime).await,
        };
        told(&changed?, json)
    }
}

async fn all_rooms(client: &Client) -> Result<Vec<RoomView>, RequestError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = client.rooms(after, PAGE).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

async fn all_members(client: &Client, room: &RoomId) -> Result<Vec<RoomMember>, RequestError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = client.members(room, after, PAGE).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

fn told(changed: &RoomChanged, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(serde_json::to_string(changed)?);
    }
    Ok(match changed.seq {
        Some(seq) => format!("{} {seq}", changed.conv),
        None => format!("{}: it is so already", changed.conv),
    })
}

fn lines(items: &[impl Serialize]) -> anyhow::Result<String> {
    let lines: Result<Vec<_>, _> = items.iter().map(serde_json::to_string).collect();
    Ok(lines?.join("\n"))
}

fn rooms(rooms: &[RoomView], json: bool) -> anyhow::Result<String> {
    if json {
        return lines(rooms);
    }
    let row = |view: &RoomView| {
        let role = view.role.map_or(if view.invited { "invited" } else { "" }, word);
        let log = |read: fn(&RoomLog) -> u64| view.log.as_ref().map(|log| read(log).to_string()).unwrap_or_default();
        [
            view.room.to_string(),
            role.to_owned(),
            view.members.to_string(),
            log(|log| log.unread),
            log(|log| log.head),
            if view.public { "yes".to_owned() } else { String::new() },
            view.topic.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]
    };
    Ok(table(["room", "role", "members", "unread", "head", "public", "topic"], rooms.iter().map(row)))
}

fn members(members: &[RoomMember], json: bool) -> anyhow::Result<String> {
    if json {
        return lines(members);
    }
    let row = |member: &RoomMember| {
        let since = member.since.map(|since| since.to_string()).unwrap_or_default();
        [member.user.to_string(), member.role.map_or("invited", word).to_owned(), since]
    };
    Ok(table(["user", "role", "since"], members.iter().map(row)))
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Moderator => "moderator",
        Role::Owner => "owner",
    }
}
