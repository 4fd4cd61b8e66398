//! A container's status in Docker's words.

use std::{fmt, time::Duration};

use wharf_model::{Container, ContainerHealth, Phase, Timestamp};

/// What containers of a node show that does not answer.
pub(super) const HOST_DOWN: &str = "Host Down";

/// A container's status at a moment: `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`, …
pub(super) struct Status<'a> {
    container: &'a Container,
    now: Timestamp,
}

impl<'a> Status<'a> {
    pub(super) fn new(container: &'a Container, now: Timestamp) -> Self {
        Self { container, now }
    }
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { container, now } = self;
        if let Some(listed) = &container.listed {
            return f.write_str(listed);
        }
        let since = |time: Option<Timestamp>| Ago(time.unwrap_or(*now).until(*now));
        match container.phase {
            Phase::Created => f.write_str("Created"),
            Phase::Removing => f.write_str("Removal In Progress"),
            Phase::Dead => f.write_str("Dead"),
            Phase::Paused => write!(f, "Up {} (Paused)", since(container.started)),
            Phase::Restarting => write!(f, "Restarting ({}) {} ago", container.exit_code, since(container.finished)),
            Phase::Exited => write!(f, "Exited ({}) {} ago", container.exit_code, since(container.finished)),
            Phase::Running => {
                let health = match container.health {
                    ContainerHealth::None => "",
                    ContainerHealth::Starting => " (health: starting)",
                    ContainerHealth::Healthy => " (healthy)",
                    ContainerHealth::Unhealthy => " (unhealthy)",
                };
                write!(f, "Up {}{health}", since(container.started))
            }
        }
    }
}

/// A duration as Docker says it to people.
struct Ago(Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
        match seconds {
            0 => f.write_str("Less than a second"),
            1 => f.write_str("1 second"),
            2..60 => write!(f, "{seconds} seconds"),
            60..120 => f.write_str("About a minute"),
            _ if minutes < 60 => write!(f, "{minutes} minutes"),
            _ if hours == 1 => f.write_str("About an hour"),
            _ if hours < 48 => write!(f, "{hours} hours"),
            _ if hours < 24 * 7 * 2 => write!(f, "{} days", hours / 24),
            _ if hours < 24 * 30 * 2 => write!(f, "{} weeks", hours / 24 / 7),
            _ if hours < 24 * 365 * 2 => write!(f, "{} months", hours / 24 / 30),
            _ => write!(f, "{} years", seconds / 3600 / 24 / 365),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Ago;

    #[test]
    fn durations_are_said_as_docker_says_them() {
        for (seconds, said) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (15 * 86400, "2 weeks"),
            (70 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(Ago(Duration::from_secs(seconds)).to_string(), said, "{seconds}");
        }
    }
}
