//! Carries out what the owner asks. A command for something that is gone by then is no error.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use quiche::ConnectionId;

use crate::buffer_count::Meter;
use crate::command::{ChannelSide, Command, TlsMaterial};
use crate::connection::{
    Connection, Kind, Leg, Route, RouteChannel, Stage, VIRTUAL_LOCAL, VIRTUAL_PEER,
};
use crate::error::EndpointError;
use crate::event::{ClosedBy, ConnectionKind, Event};
use crate::id::{ConnectionHandle, PairId, WireId};
use crate::tls::TlsContext;

use super::drive::close;
use super::plane::{PairChannel, Plane, Source, Target, unix_time};

impl Plane {
    pub(super) fn apply(&mut self, command: Command, now: Instant) {
        match command {
            Command::SetTls(material) => self.set_tls(&material),
            Command::ConnectLeg { connection, remote, server_name } => {
                self.connect_leg(connection, remote, server_name.as_deref());
            }
            Command::ConnectTunnel { connection, pair } => {
                self.connect_tunnel(connection, pair, now)
            }
            Command::Admit { connection } => self.admit(connection, now),
            Command::CloseConnection { connection, code, reason } => {
                self.with_connection(connection, |it| it.close(code, &reason));
            }
            Command::PingLeg { connection } => self.ping_leg(connection, now),
            Command::SendControl { connection, frame } => self.send_control(connection, &frame),
            Command::OpenChannel { a, b, rate_bps } => self.open_channel(a, b, rate_bps, now),
            Command::MoveChannels { from, to } => self.move_channels(from, to),
            Command::OpenRelayedPath { pair, leg, send_id, receive_id, near } => {
                self.open_relayed_path(pair, leg, (send_id, receive_id), near, now);
            }
            Command::CloseChannel { channel } => self.close_channel(channel, now),
            Command::SetLocalCredentials { tunnel, credentials } => {
                self.with_tunnel(tunnel, |it| it.paths.set_local(credentials, now));
            }
            Command::SetCandidates { tunnel, generation, credentials, candidates } => {
                // Direct candidates are the business of the direct-path work; an empty list carries
                // the credentials, which checks on relayed paths need too.
                drop(candidates);
                self.with_tunnel(tunnel, |it| it.paths.set_remote(generation, credentials, now));
            }
            Command::SetPathPolicy { tunnel, policy } => {
                self.with_tunnel(tunnel, |it| it.paths.set_policy(policy, now));
            }
            Command::SetServices { services, listeners } => {
                self.set_services(services, listeners);
            }
            Command::SetBackends { services } => self.connector.set(services),
            Command::Grant { tunnel, service } => self.grant(tunnel, &service, now),
            Command::Revoke { tunnel, service, code } => self.revoke(tunnel, &service, code, now),
            Command::RefuseService { service, answer } => {
                self.refuse_service(&service, answer, now)
            }
            Command::OpenTun(config) => self.open_tun(&config, now),
            Command::AttachPackets { path, mtu } => self.attach_packets(&path, mtu, now),
            Command::Ping { request, service, count, interval, size } => {
                self.start_ping(request, &service, count, interval, size, now);
            }
            Command::Snapshot { request } => self.tell_snapshot(request),
            Command::Shutdown { code, reason, grace } => self.shut_down(code, &reason, now + grace),
        }
    }

    pub(super) fn fail_command(&mut self, error: &EndpointError) {
        self.events.push(Event::CommandFailed { code: error.code(), message: error.to_string() });
    }

    fn with_connection(&mut self, handle: ConnectionHandle, act: impl FnOnce(&mut Connection)) {
        let Some(key) = self.handles.get(&handle).copied() else { return };
        if let Some(connection) = self.connections.get_mut(key) {
            act(connection);
        }
        self.mark_dirty(key);
    }

    fn with_tunnel(
        &mut self,
        handle: ConnectionHandle,
        act: impl FnOnce(&mut crate::connection::Tunnel),
    ) {
        self.with_connection(handle, |connection| {
            if let Some(tunnel) = connection.tunnel_mut() {
                act(tunnel);
            }
        });
    }

    fn set_tls(&mut self, material: &TlsMaterial) {
        match TlsContext::new(material, unix_time()) {
            Ok(context) => {
                self.tls = Some(context);
                self.judge_all();
            }
            Err(error) => self.fail_command(&error),
        }
    }

    fn connect_leg(
        &mut self,
        handle: ConnectionHandle,
        remote: SocketAddr,
        server_name: Option<&str>,
    ) {
        let port = self.port_for(remote);
        self.tell_tls_the_time();
        let config = self.tls.as_mut().map(TlsContext::leg_client);
        let (Some(port), Some(config)) = (port, config) else {
            return self.refuse_dial(
                handle,
                ConnectionKind::Leg,
                "no socket of that family or no TLS material",
            );
        };
        let id = self.shared.issue_connection_id();
        let quic = quiche::connect(
            server_name,
            &ConnectionId::from_ref(&id.0),
            VIRTUAL_LOCAL,
            remote,
            config,
        );
        let Ok(quic) = quic else {
            self.shared.release_id(id);
            return self.refuse_dial(handle, ConnectionKind::Leg, "the server name cannot be used");
        };
        let leg = Leg { remote, port, src_ip: None, ping_deadline: None };
        let connection = Connection::new(handle, quic, false, Kind::Leg(leg), Meter::new());
        let key = self.insert(connection, id);
        self.dialled_legs.push(key);
        self.mark_dirty(key);
    }

    fn connect_tunnel(&mut self, handle: ConnectionHandle, pair: PairId, now: Instant) {
        self.tell_tls_the_time();
        let paths = self.pairs.get(&pair).filter(|pair| !pair.channels.is_empty());
        let (Some(paths), Some(tls)) = (paths, self.tls.as_mut()) else {
            return self.refuse_dial(handle, ConnectionKind::Tunnel, "the pair has no path");
        };
        let id = self.shared.issue_connection_id();
        let quic = quiche::connect(
            None,
            &ConnectionId::from_ref(&id.0),
            VIRTUAL_LOCAL,
            VIRTUAL_PEER,
            tls.tunnel_client(paths.is_near()),
        );
        let Ok(quic) = quic else {
            self.shared.release_id(id);
            return self.refuse_dial(handle, ConnectionKind::Tunnel, "the handshake cannot start");
        };
        let key = self.insert_tunnel(quic, false, pair, id, Some(handle), now);
        self.mark_dirty(key);
    }

    fn refuse_dial(&mut self, connection: ConnectionHandle, kind: ConnectionKind, reason: &str) {
        self.events.push(Event::Closed {
            connection,
            kind,
            by: ClosedBy::Local,
            code: close::LIMIT_EXCEEDED,
            application: true,
            reason: reason.to_owned(),
        });
    }

    fn admit(&mut self, handle: ConnectionHandle, now: Instant) {
        let Some(key) = self.handles.get(&handle).copied() else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.stage != Stage::Judging {
            return;
        }
        connection.stage = Stage::Admitted;
        connection.control_in.admit();
        if let Kind::Leg(leg) = &connection.kind {
            let (remote, port, src_ip) = (leg.remote, leg.port, leg.src_ip);
            if self.is_relay() {
                self.channels.set_leg_address(handle, Some(remote));
                self.sources.insert(remote, Source { leg: handle, port, src_ip });
            }
        }
        self.start_keepalive(key, now);
        self.mark_dirty(key);
    }

    fn send_control(&mut self, handle: ConnectionHandle, frame: &[u8]) {
        self.with_connection(handle, |connection| {
            if !connection.queue_control(frame) {
                connection.close(close::LIMIT_EXCEEDED, "control frames are not read");
            }
        });
    }

    fn open_channel(&mut self, a: ChannelSide, b: ChannelSide, rate_bps: u64, now: Instant) {
        for side in [&a, &b] {
            if let Some(key) = self.handles.get(&side.leg)
                && let Some(Kind::Leg(leg)) = self.connections.get(*key).map(|it| &it.kind)
            {
                self.channels.set_leg_address(side.leg, Some(leg.remote));
            }
        }
        if let Err(error) = self.channels.open(a, b, rate_bps, now) {
            self.warn("channel not opened", error.to_string());
        }
    }

    fn move_channels(&mut self, from: ConnectionHandle, to: ConnectionHandle) {
        self.channels.move_leg(from, to);
    }

    fn open_relayed_path(
        &mut self,
        pair: PairId,
        leg: ConnectionHandle,
        (send_id, receive_id): (WireId, WireId),
        near: bool,
        now: Instant,
    ) {
        let leg_of = self.handles.get(&leg).and_then(|key| self.connections.get(*key));
        let Some(Kind::Leg(at)) = leg_of.map(|connection| &connection.kind) else {
            return self.warn("relayed path not opened", format!("leg {} is gone", leg.0));
        };
        let channel =
            PairChannel { leg, port: at.port, relay: at.remote, send_id, receive_id, near };
        if let Some(Target::Channel(other)) = self.ids.get(&receive_id).copied()
            && other != pair
        {
            self.forget_channel(other, receive_id, now);
        }
        let entry = self.pairs.entry(pair).or_default();
        match entry.channels.iter_mut().find(|it| it.receive_id == receive_id) {
            Some(existing) => *existing = channel,
            None => entry.channels.push(channel),
        }
        self.ids.insert(receive_id, Target::Channel(pair));
        self.sync_routes(pair, now);
    }

    fn close_channel(&mut self, channel: WireId, now: Instant) {
        if self.is_relay() {
            let ids = self.channels.close(channel);
            ids.into_iter().flatten().for_each(|id| self.shared.release_id(id));
            // One that was issued and never opened.
            self.shared.release_id(channel);
            return;
        }
        self.shared.release_id(channel);
        let Some(Target::Channel(pair)) = self.ids.get(&channel).copied() else { return };
        self.ids.remove(&channel);
        self.transmit_closing(pair, now);
        self.forget_channel(pair, channel, now);
    }

    /// Takes a relayed path from a pair and its tunnels.
    fn forget_channel(&mut self, pair: PairId, receive_id: WireId, now: Instant) {
        if let Some(entry) = self.pairs.get_mut(&pair) {
            entry.channels.retain(|it| it.receive_id != receive_id);
            if entry.channels.is_empty() && entry.tunnels.is_empty() {
                self.pairs.remove(&pair);
            }
        }
        self.sync_routes(pair, now);
    }

    /// Makes the paths of a pair's tunnels those that the pair's channels are.
    pub(super) fn sync_routes(&mut self, pair: PairId, now: Instant) {
        let Some(entry) = self.pairs.get(&pair) else { return };
        let (channels, tunnels) = (entry.channels.clone(), entry.tunnels.clone());
        for key in tunnels {
            let Some(tunnel) = self.connections.get_mut(key).and_then(Connection::tunnel_mut)
            else {
                continue;
            };
            let gone: Vec<_> = tunnel
                .routes
                .iter()
                .filter(|route| {
                    route.channel.is_some_and(|channel| {
                        channels.iter().all(|it| it.receive_id != channel.receive_id)
                    })
                })
                .map(|route| route.path)
                .collect();
            for path in gone {
                tunnel.paths.remove(path, now);
                tunnel.routes.retain(|route| route.path != path);
            }
            for channel in &channels {
                let ids = RouteChannel { send_id: channel.send_id, receive_id: channel.receive_id };
                let (port, remote) = (channel.port, channel.relay);
                if let Some(path) = tunnel.path_of_channel(channel.receive_id) {
                    for route in tunnel.routes.iter_mut().filter(|route| route.path == path) {
                        *route = Route { path, port, remote, channel: Some(ids) };
                    }
                } else if let Some(path) = tunnel.paths.add_relayed(channel.relay, now) {
                    tunnel.routes.push(Route { path, port, remote, channel: Some(ids) });
                }
            }
            self.mark_dirty(key);
        }
    }

    fn grant(&mut self, handle: ConnectionHandle, service: &str, now: Instant) {
        let Some(key) = self.handles.get(&handle).copied() else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.stage != Stage::Admitted {
            // It ended while the owner did not know yet: nothing would take its flows.
            return;
        }
        let accepted = connection.accepted;
        let Some(tunnel) = connection.tunnel_mut() else { return };
        if !tunnel.is_granted(service) {
            tunnel.grants.push(Rc::from(service));
        }
        if accepted {
            self.release_held(key, now);
        } else {
            self.serve_waiting(key, service, now);
        }
    }

    fn revoke(&mut self, handle: ConnectionHandle, service: &str, code: u64, now: Instant) {
        let Some(key) = self.handles.get(&handle).copied() else { return };
        if let Some(tunnel) = self.connections.get_mut(key).and_then(Connection::tunnel_mut) {
            tunnel.grants.retain(|granted| &**granted != service);
        }
        self.forget_grant(key, service);
        self.cut_service(key, service, code, now);
        self.mark_dirty(key);
    }

    fn shut_down(&mut self, code: u64, reason: &str, until: Instant) {
        self.stopping = Some(until);
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.close(code, reason);
            }
            self.mark_dirty(key);
        }
    }

    /// Handshakes are judged by the time that TLS was told last.
    pub(super) fn tell_tls_the_time(&self) {
        if let Some(tls) = &self.tls {
            tls.set_now(unix_time());
        }
    }
}
