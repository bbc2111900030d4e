//! A TUN device on Linux: IP packets of applications in, and back to them.
//!
//! - **It leaves nothing behind.** The device, its addresses and their routes go with the descriptor,
//!   also when the process is killed, unless somebody made the device persistent.
//! - **Offload if at all possible**: super-segments and partial checksums are worth a factor of two to
//!   seven in throughput.
//! - **No more rights than needed.** A device that an administrator set up is used as it is; setting
//!   what is set already is not tried.

mod ioctl;
mod netlink;
#[cfg(test)]
mod tests;
pub(crate) mod vnet;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use self::vnet::VnetHeader;
use crate::EndpointError;
use crate::command::{TunConfig, TunSource};

/// Octets that a read buffer needs: a header and the largest packet.
pub(crate) const READ_BUFFER: usize = VnetHeader::LENGTH + 65_535;

/// The default of 500 drops packets when an application sends at full speed without offload.
const QUEUE_LENGTH: i32 = 5_000;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// An open device. Reading and writing never block.
#[derive(Debug)]
pub(crate) struct TunDevice {
    file: File,
    name: String,
    offload: bool,
    mtu: u16,
}

impl TunDevice {
    /// Opens or adopts a device and configures it as far as it is not.
    pub(crate) fn open(config: &TunConfig) -> Result<Self, EndpointError> {
        match &config.source {
            TunSource::Name(name) => Self::open_by_name(name, config),
            TunSource::Descriptor(descriptor) => Self::adopt(*descriptor, config.mtu),
        }
    }

    /// Returns the interface's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether packets carry a header that the kernel understands.
    pub(crate) const fn offload(&self) -> bool {
        self.offload
    }

    /// Returns the largest packet that is not a super-segment.
    pub(crate) const fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Reads one packet into `buffer`, which holds [`READ_BUFFER`] octets. `None` tells that none
    /// waits.
    pub(crate) fn read<'b>(
        &self,
        buffer: &'b mut [u8],
    ) -> io::Result<Option<(VnetHeader, &'b mut [u8])>> {
        let length = match (&self.file).read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let packet = buffer.get_mut(..length).unwrap_or_default();
        if !self.offload {
            return Ok(Some((VnetHeader::PLAIN, packet)));
        }
        match packet.split_first_chunk_mut::<{ VnetHeader::LENGTH }>() {
            Some((header, packet)) => Ok(Some((VnetHeader::from_octets(header), packet))),
            None => Err(io::Error::new(ErrorKind::UnexpectedEof, "a packet without its header")),
        }
    }

    /// Writes one packet. It goes to the application at once or is lost; the device does not queue.
    pub(crate) fn write(&self, header: VnetHeader, packet: &[u8]) -> io::Result<()> {
        let header = header.to_octets();
        let parts = [IoSlice::new(&header), IoSlice::new(packet)];
        let [_, packet_only] = &parts;
        let parts = if self.offload { &parts[..] } else { std::slice::from_ref(packet_only) };
        (&self.file).write_vectored(parts).map(drop)
    }

    fn open_by_name(name: &str, config: &TunConfig) -> Result<Self, EndpointError> {
        let failed = |what: &str, error: &io::Error| unavailable(name, what, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(CLONE_DEVICE)
            .map_err(|error| failed("opening /dev/net/tun", &error))?;
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let name = ioctl::attach(file.as_fd(), name, flags)
            .map_err(|error| failed("attaching to the device", &error))?;
        let device = Self { file, name, offload: true, mtu: config.mtu };
        device.set_offload()?;
        device.configure(config)?;
        Ok(device)
    }

    fn adopt(descriptor: RawFd, mtu: u16) -> Result<Self, EndpointError> {
        let name = format!("descriptor {descriptor}");
        let failed = |what: &str, error: &io::Error| unavailable(&name, what, error);
        // SAFETY: only asks whether the number is an open descriptor.
        if descriptor < 0 || unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
            let error = io::Error::from_raw_os_error(libc::EBADF);
            return Err(failed("adopting it", &error));
        }
        // SAFETY: it is open, and by the contract of `TunSource::Descriptor` it is ours from here on.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let (interface, flags) = ioctl::attached(owned.as_fd())
            .map_err(|error| failed("asking which TUN device it is", &error))?;
        if flags & libc::IFF_TUN == 0 || flags & libc::IFF_NO_PI == 0 {
            let error = io::Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "{interface} carries frames or packet information; make it with IFF_TUN and IFF_NO_PI"
                ),
            );
            return Err(failed("adopting it", &error));
        }
        set_flags(owned.as_fd()).map_err(|error| failed("making it non-blocking", &error))?;
        let offload = flags & libc::IFF_VNET_HDR != 0;
        let device = Self { file: File::from(owned), name: interface, offload, mtu };
        device.set_offload()?;
        // Its owner configured it; a smaller MTU than asked for is what counts.
        let mtu = control_socket()
            .and_then(|socket| ioctl::mtu(socket.as_fd(), &device.name))
            .ok()
            .and_then(|actual| u16::try_from(actual).ok())
            .map_or(mtu, |actual| actual.min(mtu));
        Ok(Self { mtu, ..device })
    }

    /// Offload is a property of the device that outlives a descriptor, so it is set in any case.
    fn set_offload(&self) -> Result<(), EndpointError> {
        let tun = self.file.as_fd();
        let result = if self.offload {
            ioctl::set_vnet_header_length(tun, VnetHeader::LENGTH as libc::c_int).and_then(|()| {
                ioctl::set_offload(tun, ioctl::OFFLOAD_TCP | ioctl::OFFLOAD_UDP)
                    .or_else(|_| ioctl::set_offload(tun, ioctl::OFFLOAD_TCP))
            })
        } else {
            ioctl::set_offload(tun, 0)
        };
        result.map_err(|error| unavailable(&self.name, "setting offloads", &error))
    }

    fn configure(&self, config: &TunConfig) -> Result<(), EndpointError> {
        let name = self.name.as_str();
        let failed = |what: &str, error: &io::Error| unavailable(name, what, error);
        let socket =
            control_socket().map_err(|error| failed("opening a control socket", &error))?;
        let socket = socket.as_fd();
        if ioctl::mtu(socket, name).ok() != Some(config.mtu.into()) {
            ioctl::set_mtu(socket, name, config.mtu)
                .map_err(|error| failed(&format!("setting the MTU to {}", config.mtu), &error))?;
        }
        // Whoever set the device up without rights for us decided on its queue as well.
        drop(ioctl::set_queue_length(socket, name, QUEUE_LENGTH));
        if !ioctl::is_up(socket, name).unwrap_or(false) {
            ioctl::set_up(socket, name).map_err(|error| failed("bringing it up", &error))?;
        }
        let present = addresses_of(name);
        let mut aliases = 0;
        for &(address, prefix) in &config.addresses {
            let label = if aliases == 0 { name.to_owned() } else { format!("{name}:{aliases}") };
            aliases += u32::from(address.is_ipv4());
            if present.contains(&address) {
                continue;
            }
            let result = match address {
                IpAddr::V4(v4) => ioctl::set_ipv4(socket, &label, v4, prefix),
                IpAddr::V6(v6) => ioctl::index(socket, name)
                    .and_then(|index| netlink::add_ipv6(index, v6, prefix)),
            };
            result.map_err(|error| failed(&format!("adding {address}/{prefix}"), &error))?;
        }
        Ok(())
    }
}

impl AsRawFd for TunDevice {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Says what was tried, what the system answered, and what to do about it.
fn unavailable(name: &str, what: &str, error: &io::Error) -> EndpointError {
    let advice = match error.raw_os_error() {
        Some(libc::ENOENT) => "; load the tun module, or pass /dev/net/tun into the container",
        Some(libc::ENODEV | libc::ENXIO) => "; load the tun module",
        Some(libc::EACCES) => "; let this user open /dev/net/tun, or pass an open descriptor",
        Some(libc::EPERM) => {
            "; grant CAP_NET_ADMIN, or have an administrator set the device up for this user \
             (ip tuntap add mode tun user …) with these addresses"
        }
        Some(libc::EBUSY) => "; another process has the device open: choose another name",
        Some(libc::EINVAL) => "; is the name taken by another kind of interface?",
        Some(libc::EBADFD | libc::ENOTTY | libc::EBADF) => {
            "; pass the descriptor of an attached TUN device"
        }
        _ => "",
    };
    EndpointError::TunUnavailable {
        name: name.to_owned(),
        detail: format!("{what}: {error}{advice}"),
    }
}

/// Returns a socket that only serves to name interfaces to the kernel.
fn control_socket() -> io::Result<OwnedFd> {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).map(OwnedFd::from)
}

fn set_flags(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let raw = descriptor.as_raw_fd();
    // SAFETY: reads the flags of an open descriptor.
    let flags = unsafe { libc::fcntl(raw, libc::F_GETFL) };
    // SAFETY: sets the flags of an open descriptor.
    let status = unsafe { libc::fcntl(raw, libc::F_SETFL, flags | libc::O_NONBLOCK) };
    // SAFETY: sets the flags of an open descriptor.
    let inheritance = unsafe { libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) };
    if flags < 0 || status < 0 || inheritance < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Returns the addresses that an interface has, as far as they can be learned.
fn addresses_of(name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut list = std::ptr::null_mut();
    // SAFETY: the call writes a list to the pointer, or fails.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return found;
    }
    let mut next = list;
    // SAFETY: the list is valid until it is freed, and each entry links to the next or to null.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: every entry has a name that ends with zero.
        let label = unsafe { std::ffi::CStr::from_ptr(entry.ifa_name) };
        let interface = label.to_str().ok().and_then(|label| label.split(':').next());
        if interface != Some(name) {
            continue;
        }
        // SAFETY: an entry's address is null or a socket address.
        let Some(address) = (unsafe { entry.ifa_addr.as_ref() }) else { continue };
        match libc::c_int::from(address.sa_family) {
            libc::AF_INET => {
                // SAFETY: the family says which structure it is.
                let v4 = unsafe { *entry.ifa_addr.cast::<libc::sockaddr_in>() };
                found.push(IpAddr::V4(u32::from_be(v4.sin_addr.s_addr).into()));
            }
            libc::AF_INET6 => {
                // SAFETY: the family says which structure it is.
                let v6 = unsafe { *entry.ifa_addr.cast::<libc::sockaddr_in6>() };
                found.push(IpAddr::V6(v6.sin6_addr.s6_addr.into()));
            }
            _ => {}
        }
    }
    // SAFETY: the list came from `getifaddrs`, and nothing of it is used any more.
    unsafe { libc::freeifaddrs(list) };
    found
}
