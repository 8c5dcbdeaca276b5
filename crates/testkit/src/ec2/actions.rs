//! The EC2 actions that Backstop uses, and no others.

use std::collections::BTreeMap;

use chrono::SecondsFormat;

use super::api_error::Ec2Error;
use super::request::{Ec2Request, Filter};
use super::state::{Completion, Ec2Instance, Ec2Snapshot, Ec2State, Ec2Volume};
use super::xml::Element;
use super::{Shared, volume_copy};

/// Response to the client.
pub(super) enum ActionResponse {
    /// Status and body.
    Said(u16, String),
    /// Nothing, ever.
    Nothing,
}

type ActionResult = Result<Element, Ec2Error>;

/// Carries an action out and answers, according to the configured behaviour.
pub(super) fn answer(request: &Ec2Request, shared: &Shared) -> ActionResponse {
    let action = request.action.as_str();
    let before = before(action, &mut shared.lock());
    let done = before.and_then(|()| act(request, shared));
    let mut state = shared.lock();
    match done {
        Ok(_) if count_down(&mut state.rules.unanswered, action) => ActionResponse::Nothing,
        Ok(_) if count_down(&mut state.rules.broken, action) => {
            let refusal = Ec2Error::new(500, "InternalError", "An internal error has occurred");
            ActionResponse::Said(500, refusal.body())
        }
        Ok(element) => ActionResponse::Said(200, element.document()),
        Err(refusal) => ActionResponse::Said(refusal.status, refusal.body()),
    }
}

fn before(action: &str, state: &mut Ec2State) -> Result<(), Ec2Error> {
    if state.rules.denied.contains(action) {
        return Err(Ec2Error::denied(action));
    }
    if count_down(&mut state.rules.throttled, action) {
        return Err(Ec2Error::new(503, "RequestLimitExceeded", "Request limit exceeded."));
    }
    if count_down(&mut state.rules.unknown, action) {
        return Err(Ec2Error::missing("snap-x", "Snapshot"));
    }
    Ok(())
}

fn count_down(counts: &mut BTreeMap<String, u32>, action: &str) -> bool {
    match counts.get_mut(action) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

fn act(request: &Ec2Request, shared: &Shared) -> ActionResult {
    let action = request.action.as_str();
    let known: &[&str] = match action {
        "DescribeInstances" | "DescribeVolumes" => &["Filter", "MaxResults", "NextToken"],
        "DescribeSnapshots" => &["Filter", "MaxResults", "NextToken", "Owner"],
        "CreateSnapshots" => &["InstanceSpecification", "Description", "TagSpecification"],
        "CreateTags" => &["ResourceId", "Tag"],
        "DeleteSnapshot" => &["SnapshotId"],
        other => return Err(Ec2Error::new(400, "InvalidAction", format!("The action {other} is not valid"))),
    };
    request.only(known)?;
    match action {
        "DescribeInstances" => instances(request, &mut shared.lock()),
        "DescribeVolumes" => volumes(request, &mut shared.lock()),
        "DescribeSnapshots" => snapshots(request, &mut shared.lock()),
        "CreateSnapshots" => create(request, shared),
        "CreateTags" => tag(request, &mut shared.lock()),
        _ => delete(request, &mut shared.lock()),
    }
}

fn instances(request: &Ec2Request, state: &mut Ec2State) -> ActionResult {
    state.calls.push(request.action.clone());
    let filters = request.filters();
    let found = state.instances.iter().filter(|one| one.region == request.region);
    let found: Vec<_> = found.filter(|one| filters.iter().all(|filter| instance_fits(one, filter))).collect();
    let (page, next) = page(request, &found, state.rules.page)?;
    let items = page.iter().map(|one| {
        let item = Element::new("item")
            .text("instanceId", &one.id)
            .with(Element::new("instanceState").text("code", "16").text("name", &one.state))
            .text("privateIpAddress", &one.private_ip)
            .text("privateDnsName", &one.private_dns)
            .text("rootDeviceName", &one.root_device);
        let item = tagged(item, &one.tags);
        Element::new("item").text("reservationId", "r-1").set("instancesSet", [item])
    });
    Ok(next_token(response("DescribeInstances").set("reservationSet", items), next))
}

fn instance_fits(one: &Ec2Instance, filter: &Filter) -> bool {
    match filter.name.as_str() {
        "private-ip-address" => filter.fits(&one.private_ip),
        "private-dns-name" => filter.fits(&one.private_dns),
        name => tag_fits(&one.tags, name, filter),
    }
}

fn tag_fits(tags: &BTreeMap<String, String>, name: &str, filter: &Filter) -> bool {
    let value = name.strip_prefix("tag:").and_then(|key| tags.get(key));
    value.is_some_and(|value| filter.fits(value))
}

fn volumes(request: &Ec2Request, state: &mut Ec2State) -> ActionResult {
    state.calls.push(request.action.clone());
    let filters = request.filters();
    if let Some(strange) = filters.iter().find(|filter| filter.name != "attachment.instance-id") {
        return Err(Ec2Error::new(
            400,
            "InvalidParameterValue",
            format!("The filter '{}' is invalid", strange.name),
        ));
    }
    let here = state.instances.iter().filter(|one| one.region == request.region);
    let here = here.filter(|one| filters.iter().all(|filter| filter.fits(&one.id)));
    let found: Vec<_> = here.flat_map(|one| one.volumes.iter().map(move |volume| (one, volume))).collect();
    let (page, next) = page(request, &found, state.rules.page)?;
    let items = page.iter().map(|(one, volume)| {
        let attachment = Element::new("item")
            .text("volumeId", &volume.id)
            .text("instanceId", &one.id)
            .text("device", &volume.device)
            .text("status", "attached");
        let item = Element::new("item")
            .text("volumeId", &volume.id)
            .text("size", &volume.gibibytes.to_string())
            .text("status", "in-use")
            .text("volumeType", &volume.performance.0)
            .text("iops", &volume.performance.1.to_string())
            .text("throughput", &volume.performance.2.to_string())
            .set("attachmentSet", [attachment]);
        tagged(item, &volume.tags)
    });
    Ok(next_token(response("DescribeVolumes").set("volumeSet", items), next))
}

fn snapshots(request: &Ec2Request, state: &mut Ec2State) -> ActionResult {
    if request.list("Owner") != ["self"] {
        return Err(Ec2Error::new(400, "InvalidParameterValue", "ask for the account's own snapshots"));
    }
    state.calls.push(request.action.clone());
    state.looked();
    let filters = request.filters();
    let fits = |shot: &&Ec2Snapshot| {
        filters.iter().all(|filter| match filter.name.as_str() {
            "snapshot-id" => filter.fits(&shot.id),
            name => tag_fits(&shot.tags, name, filter),
        })
    };
    let listed = state.snapshots.iter().filter(|shot| shot.region == request.region && shot.hidden == 0);
    let found: Vec<_> = listed.filter(fits).collect();
    let (page, next) = page(request, &found, state.rules.page)?;
    let items = page.iter().map(|shot| item(shot));
    Ok(next_token(response("DescribeSnapshots").set("snapshotSet", items), next))
}

fn item(shot: &Ec2Snapshot) -> Element {
    let item = Element::new("item")
        .text("snapshotId", &shot.id)
        .text("volumeId", &shot.volume)
        .text("status", &shot.state)
        .text("state", &shot.state)
        .text("storageTier", &shot.tier)
        .text("startTime", &shot.begun.to_rfc3339_opts(SecondsFormat::Millis, true))
        .text("volumeSize", &shot.gibibytes.to_string());
    tagged(item, &shot.tags)
}

/// Snapshots all volumes of an instance except the excluded ones at a single point in time.
fn create(request: &Ec2Request, shared: &Shared) -> ActionResult {
    let mut state = shared.lock();
    let wanted = request.get("InstanceSpecification.InstanceId").unwrap_or_default();
    let here = state.instances.iter().find(|one| one.id == wanted && one.region == request.region);
    let instance = here.cloned().ok_or_else(|| Ec2Error::missing(wanted, "InstanceID"))?;
    if request.get("TagSpecification.1.ResourceType") != Some("snapshot") {
        return Err(Ec2Error::new(400, "InvalidParameterValue", "tag the snapshots as they are created"));
    }
    if state.rules.denied.contains("CreateTags") {
        return Err(Ec2Error::denied("CreateTags"));
    }
    let tags = request.tags("TagSpecification.1.Tag")?;
    let volumes = chosen(request, &instance)?;
    if request.is_dry_run() {
        state.calls.push(format!("DryRun:{}", request.action));
        return Err(Ec2Error::dry_run());
    }
    if state.rules.quota.is_some_and(|quota| state.snapshots.len() + volumes.len() > quota) {
        let message = "The maximum number of snapshots has been reached for this account.";
        return Err(Ec2Error::new(400, "SnapshotLimitExceeded", message));
    }
    state.calls.push(request.action.clone());
    let mut made = Vec::new();
    for volume in volumes {
        made.push(shot(request, &mut state, volume, &tags, shared));
    }
    let answer = response("CreateSnapshots").set("snapshotSet", made.iter().map(item));
    state.snapshots.extend(made);
    Ok(answer)
}

fn chosen<'a>(request: &Ec2Request, instance: &'a Ec2Instance) -> Result<Vec<&'a Ec2Volume>, Ec2Error> {
    let without_root = request.get("InstanceSpecification.ExcludeBootVolume") == Some("true");
    let without = request.list("InstanceSpecification.ExcludeDataVolumeId");
    let is_root = |volume: &Ec2Volume| volume.device == instance.root_device;
    let data = |id: &String| instance.volumes.iter().any(|volume| volume.id == *id && !is_root(volume));
    if let Some(strange) = without.iter().find(|id| !data(id)) {
        return Err(Ec2Error::missing(strange, "Volume"));
    }
    let left = instance.volumes.iter().filter(|volume| !without.contains(&volume.id));
    Ok(left.filter(|volume| !(without_root && is_root(volume))).collect())
}

fn shot(
    request: &Ec2Request,
    state: &mut Ec2State,
    volume: &Ec2Volume,
    tags: &BTreeMap<String, String>,
    shared: &Shared,
) -> Ec2Snapshot {
    let id = format!("snap-{:017x}", state.number());
    let image = volume.path.as_ref().map(|path| {
        let to = shared.images.join(&id);
        volume_copy::copy(path, &to);
        to
    });
    let looks_left = match state.rules.completion {
        Completion::After(looks) | Completion::Error(looks) => looks,
        Completion::Never => 0,
    };
    Ec2Snapshot {
        id,
        region: request.region.clone(),
        volume: volume.id.clone(),
        gibibytes: volume.gibibytes,
        state: "pending".to_owned(),
        tier: super::state::standard(),
        begun: chrono::Utc::now(),
        tags: tags.clone(),
        image,
        hidden: state.rules.lag,
        looks_left,
    }
}

fn tag(request: &Ec2Request, state: &mut Ec2State) -> ActionResult {
    let tags = request.tags("Tag")?;
    let ids = request.list("ResourceId");
    if let Some(strange) = ids.iter().find(|id| !state.ids().contains(id)) {
        return Err(Ec2Error::missing(strange, "Snapshot"));
    }
    state.calls.push(request.action.clone());
    for shot in state.snapshots.iter_mut().filter(|shot| ids.contains(&shot.id)) {
        shot.tags.extend(tags.clone());
    }
    Ok(response("CreateTags").text("return", "true"))
}

fn delete(request: &Ec2Request, state: &mut Ec2State) -> ActionResult {
    let id = request.get("SnapshotId").unwrap_or_default();
    let Some(at) = state.snapshots.iter().position(|shot| shot.id == id && shot.region == request.region)
    else {
        return Err(Ec2Error::missing(id, "Snapshot"));
    };
    state.calls.push(request.action.clone());
    if let Some(image) = state.snapshots.remove(at).image {
        let _ = std::fs::remove_dir_all(&image).or_else(|_| std::fs::remove_file(&image));
    }
    Ok(response("DeleteSnapshot").text("return", "true"))
}

fn response(action: &str) -> Element {
    Element::new(&format!("{action}Response")).text("requestId", "test")
}

fn tagged(element: Element, tags: &BTreeMap<String, String>) -> Element {
    let items = tags.iter().map(|(key, value)| Element::new("item").text("key", key).text("value", value));
    element.set("tagSet", items)
}

/// Returns a page, and the token of the next one: the number of its first item.
fn page<'a, T>(
    request: &Ec2Request,
    all: &'a [T],
    longest: usize,
) -> Result<(&'a [T], Option<usize>), Ec2Error> {
    let from: usize = match request.get("NextToken") {
        None => 0,
        Some(token) => {
            token.parse().map_err(|_| Ec2Error::new(400, "InvalidNextToken", "The token is not valid"))?
        }
    };
    let size = request.get("MaxResults").and_then(|size| size.parse().ok()).unwrap_or(longest).min(longest);
    let end = (from + size).min(all.len());
    Ok((all.get(from..end).unwrap_or_default(), (end < all.len()).then_some(end)))
}

fn next_token(element: Element, next: Option<usize>) -> Element {
    match next {
        Some(next) => element.text("nextToken", &next.to_string()),
        None => element,
    }
}
