//! The providers that Bowline knows.

use bowline_core::preset;
use bowline_proto::v1;

use crate::fault::{Fault, Kind};
use crate::present;
use crate::validate::excerpt;

pub(super) fn list(request: &v1::ListPresetsRequest) -> Result<v1::ListPresetsResponse, Fault> {
    let presets = if request.name.is_empty() {
        preset::all().map(present::preset).collect::<Result<_, _>>()?
    } else {
        let absent = || Fault::not_found(Kind::Preset, excerpt(&request.name));
        vec![present::preset(preset::find(&request.name).ok_or_else(absent)?)?]
    };
    Ok(v1::ListPresetsResponse { presets })
}
