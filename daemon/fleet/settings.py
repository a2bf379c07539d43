"""Where the fleet service finds its cluster, its pods and its callers: flags and environment.

Each field is one flag of ``remora fleet`` and one ``REMORA_FLEET_*`` variable; the table in the
documentation is generated from here. How loads are steadied is the policy's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from daemon.settings import LogFormat, SettingsError, check_pair, flag
from policies.quantities import parse_seconds

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_DURATIONS = (
    "collect_interval",
    "collect_timeout",
    "stale",
    "lease_duration",
    "removal_interval",
    "event_interval",
)
_PAIRS = (
    ("sidecar_certificate", "sidecar_key"),
    ("certificate", "key"),
    ("keda_certificate", "keda_key"),
)


PREFIX = "REMORA_FLEET_"


def _says(text: str) -> Mapping[str, str]:
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    kubeconfig: Path | None = field(
        default=None, metadata=_says("Kubeconfig file; without one the pod's service account.")
    )
    own_namespace: str = field(
        default="", metadata=_says("Namespace we run in; empty: the service account's.")
    )
    identity: str = field(
        default="", metadata=_says("Our name among the replicas; empty: one after the host's.")
    )
    namespace: str = field(default="", metadata=_says("Namespace to watch; empty: all of them."))
    selector: str = field(
        default="remora.dev/sidecar=true", metadata=_says("Label selector of the pods to watch.")
    )
    policy: Path | None = field(
        default=None, metadata=_says("The policy file; without one the preset balanced holds.")
    )
    collect_interval: str = field(
        default="5s", metadata=_says("How often each sidecar is asked for its signals.")
    )
    collect_timeout: str = field(
        default="2s", metadata=_says("How long one sidecar may take to answer.")
    )
    collect_concurrency: int = field(
        default=64, metadata=_says("How many sidecars are asked at the same time.")
    )
    stale: str = field(default="30s", metadata=_says("Age from which an answer is unknown."))
    sidecar_ca: Path | None = field(
        default=None,
        metadata=_says("CA of the sidecars' certificates, PEM; with it they are asked over TLS."),
    )
    sidecar_name: str = field(
        default="",
        metadata=_says("DNS name in the sidecars' certificates; empty: any that the CA signed."),
    )
    sidecar_certificate: Path | None = field(
        default=None, metadata=_says("Client certificate shown to sidecars, a PEM chain.")
    )
    sidecar_key: Path | None = field(default=None, metadata=_says("Key of that certificate, PEM."))
    sidecar_token: Path | None = field(
        default=None, metadata=_says("File with the bearer token that sidecars ask for.")
    )
    host: str = field(default="0.0.0.0", metadata=_says("Address our ports listen on."))
    api_port: int = field(
        default=9443, metadata=_says("TLS port of the metrics APIs; 0: they are not served.")
    )
    external_metrics: bool = field(
        default=False, metadata=_says("Whether external.metrics.k8s.io is served too.")
    )
    service: str = field(
        default="remora-fleet", metadata=_says("Service in front of us; our certificate names it.")
    )
    certificate: Path | None = field(
        default=None,
        metadata=_says("Certificate of the TLS port, a PEM chain; without one we sign our own."),
    )
    key: Path | None = field(default=None, metadata=_says("Key of that certificate, PEM."))
    http_port: int = field(
        default=9440, metadata=_says("Plain port of /metrics, /healthz and /readyz.")
    )
    keda_port: int = field(
        default=0, metadata=_says("gRPC port of the KEDA external scaler; 0: it is not served.")
    )
    keda_certificate: Path | None = field(
        default=None, metadata=_says("Certificate of the gRPC port, a PEM chain; plain without.")
    )
    keda_key: Path | None = field(default=None, metadata=_says("Key of that certificate, PEM."))
    keda_ca: Path | None = field(
        default=None, metadata=_says("CA that KEDA's client certificate must come from, PEM.")
    )
    prometheus: str = field(
        default="",
        metadata=_says("Prometheus servers that a ScaledObject may name, separated by commas."),
    )
    lease: str = field(
        default="remora-fleet", metadata=_says("Lease by which replicas agree on one writer.")
    )
    lease_duration: str = field(
        default="15s", metadata=_says("How long a writer that is gone is waited for.")
    )
    deletion_cost: bool = field(
        default=True, metadata=_says("Whether the writer sets the pods' deletion cost.")
    )
    removal_interval: str = field(
        default="15s", metadata=_says("How often the writer looks at deletion costs.")
    )
    resident_labels: int = field(
        default=0,
        metadata=_says(
            "Labels resident.remora.dev/MODEL that the writer gives a pod at most; 0: none, and"
            " those that are there are taken away."
        ),
    )
    events: bool = field(
        default=True,
        metadata=_says("Whether a Deployment is told of pins that do not fit."),
    )
    event_interval: str = field(
        default="5m", metadata=_says("How often one Deployment is told so at most.")
    )
    log_format: LogFormat = field(
        default=LogFormat.TEXT, metadata=_says("How log lines are written.")
    )

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            _seconds(self, name)
        for name in ("api_port", "http_port", "keda_port"):
            least = 1 if name == "http_port" else 0
            _within(self, name, least, 65535)
        _within(self, "collect_concurrency", 1, 4096)
        _within(self, "resident_labels", 0, 512)
        for certificate, key in _PAIRS:
            check_pair(self, certificate, key, FleetSettingsError)
        self._check_together()

    def _check_together(self) -> None:
        if self.stale_s < 2 * self.collect_interval_s:
            allowed = f"at least twice {flag('collect_interval')}, {self.collect_interval}"
            raise FleetSettingsError("stale", self.stale, allowed)
        if self.sidecar_ca is None and (self.sidecar_certificate or self.sidecar_name):
            raise FleetSettingsError("sidecar_ca", "", "a file, where sidecars are asked over TLS")
        if self.keda_ca is not None and self.keda_certificate is None:
            raise FleetSettingsError("keda_certificate", "", f"a file, with {flag('keda_ca')}")
        for address in self.prometheus_servers:
            if not address.startswith(("http://", "https://")):
                raise FleetSettingsError("prometheus", address, "addresses as http://host:9090")

    @property
    def collect_interval_s(self) -> float:
        return _seconds(self, "collect_interval")

    @property
    def collect_timeout_s(self) -> float:
        return _seconds(self, "collect_timeout")

    @property
    def stale_s(self) -> float:
        return _seconds(self, "stale")

    @property
    def lease_duration_s(self) -> float:
        return _seconds(self, "lease_duration")

    @property
    def removal_interval_s(self) -> float:
        return _seconds(self, "removal_interval")

    @property
    def event_interval_s(self) -> float:
        return _seconds(self, "event_interval")

    @property
    def prometheus_servers(self) -> tuple[str, ...]:
        """Without a slash at the end, as they are compared."""
        written = (address.strip().rstrip("/") for address in self.prometheus.split(","))
        return tuple(address for address in written if address)

    @property
    def home(self) -> str:
        """The namespace we run in. Raises FleetSettingsError where nothing tells it."""
        if self.own_namespace:
            return self.own_namespace
        try:
            return _NAMESPACE_FILE.read_text("utf-8").strip()
        except OSError:
            raise FleetSettingsError("own_namespace", "", "a namespace, outside a pod") from None


class FleetSettingsError(SettingsError):
    """A setting of the fleet service that cannot be used."""

    prefix = PREFIX


def _within(settings: FleetSettings, name: str, least: int, most: int) -> None:
    value: int = getattr(settings, name)
    if not least <= value <= most:
        raise FleetSettingsError(name, str(value), f"a whole number from {least} to {most}")


def _seconds(settings: FleetSettings, name: str) -> float:
    written: str = getattr(settings, name)
    try:
        amount = parse_seconds(written)
    except ValueError:
        amount = 0.0
    if amount <= 0:
        raise FleetSettingsError(name, written, "a duration above 0s, as 2s or 500ms")
    return amount
