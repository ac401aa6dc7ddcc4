//! What a crash has cut off. The platform got no answer to a synchronous request that was in progress, so what may have
//! been made is taken back, and what was to be removed is removed.

use super::error::Error;
use super::operation::{Kind, Operation};
use super::{Broker, Found, put};
use crate::adapter::{Failure, Origin};
use crate::log;
use crate::store::{self, Change, Key};

/// Bindings first: an instance is deprovisioned only when nothing is in progress on its bindings.
pub(super) fn sort(keys: &mut [Key]) {
    keys.sort_by_key(|key| matches!(key, Key::Instance(_)));
}

impl Broker {
    /// Settles every operation that was in progress when the broker stopped. To be called before the first request. What
    /// cannot be settled now is logged, and tried again when a request comes about it.
    pub fn recover(&self) -> Result<(), store::Error> {
        let mut keys = self.store.open_operations()?;
        sort(&mut keys);
        for key in keys {
            if let Err(error) = self.recover_one(&key) {
                log::error("recovery_failed")
                    .with("record", &format!("{key:?}"))
                    .with("error", &*error.description)
                    .with("detail", error.detail.as_ref())
                    .send();
                self.unsettled().insert(key);
            }
        }
        Ok(())
    }

    /// Settles one operation, if it is still in progress.
    pub(super) fn recover_one(&self, key: &Key) -> Result<(), Error> {
        let settled = match key {
            Key::Instance(id) => self.recover_instance(key, id)?,
            Key::Binding(instance_id, id) => self.recover_binding(key, instance_id, id)?,
        };
        if let Some(kind) = settled {
            log::warn("operation_recovered")
                .with("record", &format!("{key:?}"))
                .with("interrupted", kind.participle())
                .send();
        }
        Ok(())
    }

    fn recover_instance(&self, key: &Key, id: &str) -> Result<Option<Kind>, Error> {
        let Found { revision, record } = self.read_instance(id)?;
        let Some(mut instance) = record.filter(|instance| instance.operation.in_progress()) else {
            return Ok(None);
        };
        let kind = instance.operation.kind;
        let change = match kind {
            Kind::Update => {
                // Nobody knows how far it came; the same update may be sent again.
                let failure =
                    Failure::failed("The service broker was stopped during the update. Try again.");
                instance.operation = Operation::failed(Kind::Update, &failure);
                put(key.clone(), revision, &instance, false)?
            }
            Kind::Deprovision => {
                self.remove_with_bindings(id, &instance, revision, Origin::default())?;
                return Ok(Some(kind));
            }
            _ => {
                self.call_deprovision(id, &instance, Origin::default())?;
                Change::Delete {
                    key: key.clone(),
                    revision,
                }
            }
        };
        self.conclude(key, vec![change])?;
        Ok(Some(kind))
    }

    fn recover_binding(
        &self,
        key: &Key,
        instance_id: &str,
        id: &str,
    ) -> Result<Option<Kind>, Error> {
        let (instance, Found { revision, record }) = self.read_binding(instance_id, id)?;
        let Some(binding) = record.filter(|binding| binding.operation.in_progress()) else {
            return Ok(None);
        };
        if let Some(instance) = instance.record {
            self.call_unbind(instance_id, &instance, id, &binding, Origin::default())?;
        }
        let change = Change::Delete {
            key: key.clone(),
            revision,
        };
        self.conclude(key, vec![change])?;
        Ok(Some(binding.operation.kind))
    }
}
