//! Reads one MPEG-TS media segment, packet by packet (ISO/IEC 13818-1 §2.4), and keeps what rules are about: places of
//! packets, clocks, counters, PES headers.

use std::collections::BTreeMap;

/// Bytes of a transport packet.
pub const PACKET: usize = 188;

/// `stream_type` (table 2-34): MPEG-1 and MPEG-2 audio, AAC in ADTS, H.264.
pub const MP3_TYPES: [u8; 2] = [0x03, 0x04];
pub const AAC_TYPE: u8 = 0x0f;
pub const AVC_TYPE: u8 = 0x1b;

/// What a packet's header and adaptation field say.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub pid: u16,
    pub starts: bool,
    pub counter: u8,
    /// Bytes of payload; `None` if `adaptation_field_control` says there is none.
    pub payload: Option<usize>,
    pub discontinuity: bool,
    pub random_access: bool,
    /// In 90 kHz ticks.
    pub pcr: Option<i64>,
}

/// The program map: PIDs and `stream_type`s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pmt {
    pub version: u8,
    pub pcr_pid: u16,
    pub streams: Vec<(u16, u8)>,
}

/// One PES packet.
#[derive(Debug, Clone)]
pub struct Pes {
    pub pid: u16,
    /// Index of its first and its last transport packet.
    pub first: usize,
    pub last: usize,
    pub random_access: bool,
    pub aligned: bool,
    /// `PES_packet_length`, and what it should be.
    pub length: usize,
    pub real_length: usize,
    pub header: usize,
    pub pts: i64,
    /// As written; `None` where only a PTS is.
    pub dts: Option<i64>,
    pub data: Vec<u8>,
}

impl Pes {
    /// Decode time.
    pub fn at(&self) -> i64 {
        self.dts.unwrap_or(self.pts)
    }
}

/// A segment taken apart.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    pub packets: Vec<Packet>,
    /// PIDs of the program maps that each PAT lists.
    pub pats: Vec<Vec<u16>>,
    pub pmts: Vec<Pmt>,
    /// In the order they start.
    pub pes: Vec<Pes>,
    /// What is no transport stream at all.
    pub malformed: Vec<String>,
}

impl Transport {
    /// Takes a segment apart. What can't be read is among `malformed`.
    pub fn read(bytes: &[u8]) -> Self {
        let mut transport = Self::default();
        if bytes.is_empty() || !bytes.len().is_multiple_of(PACKET) {
            transport.malformed.push(format!("{} bytes are not whole packets", bytes.len()));
        }
        let mut open: BTreeMap<u16, (usize, usize, bool, Vec<u8>)> = BTreeMap::new();
        for (index, raw) in bytes.chunks_exact(PACKET).enumerate() {
            let Some((packet, payload)) = packet(raw) else {
                transport.malformed.push(format!("packet {index} is none: {:02x?}", &raw[..8]));
                continue;
            };
            transport.packets.push(packet);
            if packet.pid == 0 || transport.pats.first().is_some_and(|pat| pat.contains(&packet.pid)) {
                transport.table(packet.pid, payload, index);
            } else if packet.starts {
                let fresh = (index, index, packet.random_access, payload.to_vec());
                if let Some(whole) = open.insert(packet.pid, fresh) {
                    transport.close(packet.pid, whole);
                }
            } else if !payload.is_empty() {
                match open.get_mut(&packet.pid) {
                    Some((_, last, _, data)) => {
                        *last = index;
                        data.extend_from_slice(payload);
                    }
                    None => transport.malformed.push(format!("packet {index} goes on with no PES")),
                }
            }
        }
        for (pid, whole) in open {
            transport.close(pid, whole);
        }
        transport.pes.sort_by_key(|pes| pes.first);
        transport
    }

    /// The PID and type of the first stream for which `kind` is true.
    pub fn stream(&self, kind: impl Fn(u8) -> bool) -> Option<(u16, u8)> {
        self.pmts.first()?.streams.iter().copied().find(|(_, of)| kind(*of))
    }

    /// The PES packets of a PID.
    pub fn of(&self, pid: u16) -> impl Iterator<Item = &Pes> {
        self.pes.iter().filter(move |pes| pes.pid == pid)
    }

    fn table(&mut self, pid: u16, payload: &[u8], index: usize) {
        let section = payload.first().and_then(|pointer| payload.get(1 + usize::from(*pointer)..));
        let Some(section) = section.and_then(whole_section) else {
            self.malformed.push(format!("packet {index} holds no whole table with a right CRC"));
            return;
        };
        let body = &section[8..section.len() - 4];
        let pid_at = |at: usize| u16::from_be_bytes([body[at] & 0x1f, body[at + 1]]);
        if pid == 0 {
            let programs = (0..body.len() / 4).filter(|n| body[n * 4..n * 4 + 2] != [0, 0]);
            self.pats.push(programs.map(|n| pid_at(n * 4 + 2)).collect());
            return;
        }
        let mut at = 4 + usize::from(pid_at(2) & 0xfff);
        let mut streams = Vec::new();
        while at + 5 <= body.len() {
            streams.push((pid_at(at + 1), body[at]));
            at += 5 + usize::from(pid_at(at + 3) & 0xfff);
        }
        self.pmts.push(Pmt { version: section[5] >> 1 & 0x1f, pcr_pid: pid_at(0), streams });
    }

    fn close(&mut self, pid: u16, (first, last, random_access, data): (usize, usize, bool, Vec<u8>)) {
        match pes(pid, first, last, random_access, &data) {
            Some(pes) => self.pes.push(pes),
            None => self.malformed.push(format!("packet {first} starts no PES with a PTS")),
        }
    }
}

fn packet(raw: &[u8]) -> Option<(Packet, &[u8])> {
    // Sync byte; no transport error; not scrambled.
    if raw[0] != 0x47 || raw[1] & 0x80 != 0 || raw[3] & 0xc0 != 0 {
        return None;
    }
    let mut packet = Packet {
        pid: u16::from_be_bytes([raw[1] & 0x1f, raw[2]]),
        starts: raw[1] & 0x40 != 0,
        counter: raw[3] & 0x0f,
        payload: None,
        discontinuity: false,
        random_access: false,
        pcr: None,
    };
    let mut start = 4;
    if raw[3] & 0x20 != 0 {
        let len = usize::from(raw[4]);
        start = 5 + len;
        if start > PACKET {
            return None;
        }
        if len > 0 {
            packet.discontinuity = raw[5] & 0x80 != 0;
            packet.random_access = raw[5] & 0x40 != 0;
            if raw[5] & 0x10 != 0 {
                let base = raw[6..11].iter().fold(0_i64, |value, byte| value << 8 | i64::from(*byte));
                packet.pcr = Some(base >> 7);
            }
        }
    }
    let payload = if raw[3] & 0x10 != 0 { &raw[start..] } else { &raw[PACKET..] };
    packet.payload = (raw[3] & 0x10 != 0).then_some(payload.len());
    Some((packet, payload))
}

/// A section that is whole and whose CRC is right (§2.4.4, annex A).
fn whole_section(section: &[u8]) -> Option<&[u8]> {
    let len = 3 + (usize::from(*section.get(1)? & 0x0f) << 8 | usize::from(*section.get(2)?));
    let section = section.get(..len).filter(|_| len >= 12)?;
    (crc(section) == 0).then_some(section)
}

/// CRC-32 of MPEG-2 systems. Over a table and its CRC it is 0.
pub fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            crc << 1 ^ if crc & 1 << 31 == 0 { 0 } else { 0x04c1_1db7 }
        })
    })
}

/// §2.4.3.6. `None` for what has no start code, a wrong marker bit or no PTS.
fn pes(pid: u16, first: usize, last: usize, random_access: bool, data: &[u8]) -> Option<Pes> {
    let header = 9 + usize::from(*data.get(8)?);
    if data[..3] != [0, 0, 1] || data.len() < header || data[6] >> 6 != 0b10 {
        return None;
    }
    let pts = timestamp(data.get(9..14)?, data[7] >> 6)?;
    let dts = match data[7] >> 6 {
        0b11 => Some(timestamp(data.get(14..19)?, 0b01)?),
        _ => None,
    };
    Some(Pes {
        pid,
        first,
        last,
        random_access,
        aligned: data[6] & 4 != 0,
        length: usize::from(u16::from_be_bytes([data[4], data[5]])),
        real_length: data.len() - 6,
        header,
        pts,
        dts,
        data: data[header..].to_vec(),
    })
}

/// 33 bits between a prefix and marker bits.
fn timestamp(raw: &[u8], prefix: u8) -> Option<i64> {
    let marked = raw[0] >> 4 == prefix && raw[0] & raw[2] & raw[4] & 1 == 1;
    let value = i64::from(raw[0] >> 1 & 7) << 30
        | i64::from(raw[1]) << 22
        | i64::from(raw[2] >> 1) << 15
        | i64::from(raw[3]) << 7
        | i64::from(raw[4] >> 1);
    marked.then_some(value)
}
