//! A container's status in Docker's words.

use std::{borrow::Cow, time::Duration};

use wharf_model::{Container, ContainerHealth, Phase, Timestamp};

/// What containers of a node show that does not answer.
pub(super) const HOST_DOWN: &str = "Host Down";

/// `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`, …
pub(super) fn status(container: &Container, now: Timestamp) -> Cow<'_, str> {
    match &container.listed {
        Some(listed) => Cow::Borrowed(listed),
        None => Cow::Owned(told(container, now)),
    }
}

fn told(container: &Container, now: Timestamp) -> String {
    let since = |time: Option<Timestamp>| duration(time.unwrap_or(now).until(now));
    match container.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Paused => format!("Up {} (Paused)", since(container.started)),
        Phase::Restarting => format!("Restarting ({}) {} ago", container.exit_code, since(container.finished)),
        Phase::Exited => format!("Exited ({}) {} ago", container.exit_code, since(container.finished)),
        Phase::Running => {
            let health = match container.health {
                ContainerHealth::None => "",
                ContainerHealth::Starting => " (health: starting)",
                ContainerHealth::Healthy => " (healthy)",
                ContainerHealth::Unhealthy => " (unhealthy)",
            };
            format!("Up {}{health}", since(container.started))
        }
    }
}

/// A duration as Docker says it to people.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration;

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
            assert_eq!(duration(Duration::from_secs(seconds)), said, "{seconds}");
        }
    }
}
