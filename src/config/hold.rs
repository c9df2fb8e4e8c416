//! `[hold]`: what a box gives, and from where.

use std::path::PathBuf;

use crate::store::StoreUri;

use super::node::{Checker, ConfigError};
use super::sections::{Hold, HoldSource};
use super::units::Amount;

impl Checker<'_> {
    /// The directory of payload files, or the store, that it names.
    pub(super) fn hold(
        &self,
        hold: Option<&Hold>,
        warnings: &mut Vec<String>,
    ) -> Result<(Option<PathBuf>, Option<StoreUri>), ConfigError> {
        let Some(hold) = hold else {
            return Ok((None, None));
        };
        if let Some(amount) = &hold.amount {
            self.parse::<Amount>("hold.amount", amount)?;
            warnings.push("hold.amount: what lies in hold.location is served, nothing is fetched by this version".to_owned());
        }
        let (payloads, store) = match hold.source {
            HoldSource::Payloads => (Some(PathBuf::from(&hold.location)), None),
            HoldSource::Store => (None, self.store(&hold.location, "hold.location")?),
        };
        let root = match &store {
            Some(StoreUri::Local { root }) => root.as_ref(),
            _ => payloads.as_ref(),
        };
        if let Some(root) = root.filter(|root| !root.is_dir()) {
            warnings.push(format!(
                "hold.location: there is no directory {}: nothing of it is served until it is there",
                root.display()
            ));
        }
        Ok((payloads, store))
    }
}
