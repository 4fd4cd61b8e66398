//! What runs between two containers while something else is broken: a ping and a long transfer.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::{
    fleet::{Fleet, wait},
    kernel::{Member, engine},
};

/// Sends pieces of a mebibyte until it is told to stop, then says how many they were.
const SEND: &str = "dd if=/dev/urandom of=/tmp/piece bs=1M count=1 2>/dev/null; rm -f /tmp/stop /tmp/pieces; n=0; \
     { while [ ! -e /tmp/stop ]; do cat /tmp/piece || break; n=$((n+1)); sleep 0.1; done; echo $n >/tmp/sent; } \
     | nc ADDRESS 5000; mv /tmp/sent /tmp/pieces";

/// Takes in what comes, for as long as it comes, with standard input open: its end would end the connection.
const RECEIVE: &str =
    "rm -f /tmp/sum; sleep 100000 | { nc -l -p 5000 | sha256sum >/tmp/sum.new; mv /tmp/sum.new /tmp/sum; }";

/// A ping every tenth of a second and a transfer between two containers of a network.
pub(crate) struct Traffic<'a> {
    fleet: &'a Fleet,
    from: &'a Member,
    to: &'a Member,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) pings: u32,
    pub(crate) lost: u32,
    /// In mebibytes; every one was as it was sent.
    pub(crate) transferred: u32,
}

impl<'a> Traffic<'a> {
    /// Starts both, and waits until they run. Engines are asked themselves: no manager is needed.
    pub(crate) fn start(fleet: &'a Fleet, network: &str, from: &'a Member, to: &'a Member) -> anyhow::Result<Self> {
        let traffic = Self { fleet, from, to };
        let address = to.addresses.get(network).context("it is not on this network")?.to_string();
        traffic.background(to, RECEIVE)?;
        wait("the receiver listens", || traffic.run(to, "netstat -ltn | grep -q :5000").is_ok())?;
        traffic.background(from, &format!("exec ping -i 0.1 {address} >/tmp/pings 2>&1"))?;
        traffic.background(from, &SEND.replace("ADDRESS", &address))?;
        wait("both run", || {
            let established = traffic.run(from, "netstat -tn | grep :5000 | grep -q ESTABLISHED").is_ok();
            established && traffic.run(from, "grep -q 'bytes from' /tmp/pings").is_ok()
        })?;
        Ok(traffic)
    }

    /// Lets it go on for a time that a break of the way would show in.
    pub(crate) fn go_on(&self, time: Duration) -> anyhow::Result<()> {
        let now = || -> anyhow::Result<u32> { Ok(self.run(self.from, "grep -c 'bytes from' /tmp/pings")?.parse()?) };
        let pings = u32::try_from(time.as_millis() / 100)?;
        let until = now()? + pings;
        wait("pings are answered", || now().is_ok_and(|pings| pings >= until)).map(drop)
    }

    /// Ends both.
    pub(crate) fn end(self) -> anyhow::Result<Ended> {
        self.run(self.from, "killall -INT ping; touch /tmp/stop")?;
        let pieces = || self.run(self.from, "cat /tmp/pieces").ok()?.parse::<u32>().ok();
        wait("the transfer ends", || pieces().is_some())?;
        wait("all of it is received", || self.run(self.to, "cat /tmp/sum").is_ok())?;
        let transferred = pieces().context("it has ended")?;
        let again = format!("for i in $(seq {transferred}); do cat /tmp/piece; done | sha256sum");
        let (sent, received) = (self.run(self.from, &again)?, self.run(self.to, "cat /tmp/sum")?);
        ensure!(sent == received, "{transferred} MiB were sent, and others received");
        self.run(self.to, "killall sleep || true")?;
        let summary = self.run(self.from, "grep transmitted /tmp/pings")?;
        let numbers: Vec<u32> = summary.split(' ').filter_map(|word| word.parse().ok()).collect();
        let (pings, answered) = (numbers.first().context("no number")?, numbers.get(1).context("no second number")?);
        Ok(Ended { pings: *pings, lost: pings - answered, transferred })
    }

    fn run(&self, on: &Member, script: &str) -> anyhow::Result<String> {
        engine(self.fleet, &on.node, &["exec", &on.name, "sh", "-c", script])
    }

    fn background(&self, on: &Member, script: &str) -> anyhow::Result<()> {
        engine(self.fleet, &on.node, &["exec", "-d", &on.name, "sh", "-c", script]).map(drop)
    }
}
