//! Whether a plan has room for one more service instance.

use crate::broker::protocol::error::Error;
use crate::catalog::Limits;

/// Among which instances of the plan it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Among {
    All,
    Organization,
    Space,
}

impl Among {
    pub const EACH: [Among; 3] = [Among::All, Among::Organization, Among::Space];
}

/// A limit that one more would go over, and how many there are.
#[derive(Debug, PartialEq, Eq)]
pub struct Full {
    among: Among,
    most: u64,
    there: u64,
}

/// The narrowest limit that one more would go over: users can do most about that. `there` says how many instances there are,
/// or `None` where the one that is asked for is counted already.
pub fn judge_room(limits: &Limits, there: impl Fn(Among) -> Option<u64>) -> Option<Full> {
    let limits = [
        (Among::Space, limits.instances_per_space),
        (Among::Organization, limits.instances_per_organization),
        (Among::All, limits.instances),
    ];
    let mut limits = limits.into_iter();
    limits.find_map(|(among, most)| {
        let (most, there) = (most?, there(among)?);
        (there >= most).then_some(Full { among, most, there })
    })
}

impl Full {
    /// 422, in words for users.
    pub fn error(&self, plan: &str) -> Error {
        let Full { among, most, there } = self;
        let instances = match most {
            1 => "service instance",
            _ => "service instances",
        };
        let among = match among {
            Among::All => "",
            Among::Organization => " in one organization",
            Among::Space => " in one space",
        };
        let are = match there {
            1 => "is 1",
            _ => &format!("are {there}"),
        };
        Error::limit_reached(format!(
            "Plan {plan:?} allows at most {most} {instances}{among}, and there {are} already. Delete one that is no longer \
             needed, or ask the operator of this service."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        instances: Some(10),
        instances_per_organization: Some(5),
        instances_per_space: Some(1),
    };

    /// The limit that is reached with so many in all, in the organization and in the space.
    fn judge(limits: &Limits, all: u64, organization: u64, space: u64) -> Option<Among> {
        let full = judge_room(limits, |among| {
            Some(match among {
                Among::All => all,
                Among::Organization => organization,
                Among::Space => space,
            })
        });
        full.map(|full| full.among)
    }

    #[test]
    fn the_narrowest_limit_that_is_reached_is_told() {
        assert_eq!(judge(&LIMITS, 9, 4, 0), None);
        assert_eq!(judge(&LIMITS, 9, 4, 1), Some(Among::Space));
        assert_eq!(judge(&LIMITS, 9, 5, 0), Some(Among::Organization));
        assert_eq!(judge(&LIMITS, 10, 0, 0), Some(Among::All));
        assert_eq!(judge(&LIMITS, 10, 5, 1), Some(Among::Space));
        // A limit may have been lowered.
        assert_eq!(judge(&LIMITS, 90, 0, 0), Some(Among::All));
        assert_eq!(judge(&Limits::default(), u64::MAX, 9, 9), None);
    }

    #[test]
    fn what_has_its_place_needs_none() {
        assert_eq!(judge_room(&LIMITS, |_| None), None);
        let moves = |among| (among != Among::Space).then_some(10);
        let full = judge_room(&LIMITS, moves).unwrap();
        assert_eq!(full.among, Among::Organization);
    }

    #[test]
    fn users_read_the_plan_the_limit_and_how_many_there_are() {
        let told = |among, most, there| {
            let error = Full { among, most, there }.error("small");
            assert_eq!((error.status, error.code), (422, Some("LimitReached")));
            error.description.into_owned()
        };
        assert_eq!(
            told(Among::Organization, 5, 5),
            "Plan \"small\" allows at most 5 service instances in one organization, and there are 5 already. Delete one \
             that is no longer needed, or ask the operator of this service."
        );
        let one = "Plan \"small\" allows at most 1 service instance, and there is 1 already. ";
        assert!(told(Among::All, 1, 1).starts_with(one));
        let space =
            "Plan \"small\" allows at most 2 service instances in one space, and there are 7 ";
        assert!(told(Among::Space, 2, 7).starts_with(space));
    }
}
