package api

// The records below hold every field that XenAPI's data model gives the class,
// in its order and with its names, so that strict clients can read them.

// VM is a guest.
type VM struct {
	UUID                        string            `json:"uuid"`
	AllowedOperations           []string          `json:"allowed_operations"`
	CurrentOperations           map[string]string `json:"current_operations"` // task ref -> operation
	NameLabel                   string            `json:"name_label"`
	NameDescription             string            `json:"name_description"`
	PowerState                  string            `json:"power_state"`
	UserVersion                 int64             `json:"user_version"`
	IsATemplate                 bool              `json:"is_a_template"`
	IsDefaultTemplate           bool              `json:"is_default_template"`
	SuspendVDI                  Ref               `json:"suspend_VDI"`
	ResidentOn                  Ref               `json:"resident_on"`
	ScheduledToBeResidentOn     Ref               `json:"scheduled_to_be_resident_on"`
	Affinity                    Ref               `json:"affinity"`
	MemoryOverhead              int64             `json:"memory_overhead"` // bytes
	MemoryTarget                int64             `json:"memory_target"`
	MemoryStaticMax             int64             `json:"memory_static_max"`
	MemoryDynamicMax            int64             `json:"memory_dynamic_max"`
	MemoryDynamicMin            int64             `json:"memory_dynamic_min"`
	MemoryStaticMin             int64             `json:"memory_static_min"`
	VCPUsParams                 map[string]string `json:"VCPUs_params"`
	VCPUsMax                    int64             `json:"VCPUs_max"`
	VCPUsAtStartup              int64             `json:"VCPUs_at_startup"`
	ActionsAfterSoftreboot      string            `json:"actions_after_softreboot"`
	ActionsAfterShutdown        string            `json:"actions_after_shutdown"`
	ActionsAfterReboot          string            `json:"actions_after_reboot"`
	ActionsAfterCrash           string            `json:"actions_after_crash"`
	Consoles                    []Ref             `json:"consoles"`
	VIFs                        []Ref             `json:"VIFs"`
	VBDs                        []Ref             `json:"VBDs"`
	VUSBs                       []Ref             `json:"VUSBs"`
	CrashDumps                  []Ref             `json:"crash_dumps"`
	VTPMs                       []Ref             `json:"VTPMs"`
	PVBootloader                string            `json:"PV_bootloader"`
	PVKernel                    string            `json:"PV_kernel"`
	PVRamdisk                   string            `json:"PV_ramdisk"`
	PVArgs                      string            `json:"PV_args"`
	PVBootloaderArgs            string            `json:"PV_bootloader_args"`
	PVLegacyArgs                string            `json:"PV_legacy_args"`
	HVMBootPolicy               string            `json:"HVM_boot_policy"`
	HVMBootParams               map[string]string `json:"HVM_boot_params"`
	HVMShadowMultiplier         float64           `json:"HVM_shadow_multiplier"`
	Platform                    map[string]string `json:"platform"`
	PCIBus                      string            `json:"PCI_bus"`
	OtherConfig                 map[string]string `json:"other_config"`
	DomID                       int64             `json:"domid"` // -1 when halted
	DomArch                     string            `json:"domarch"`
	LastBootCPUFlags            map[string]string `json:"last_boot_CPU_flags"`
	IsControlDomain             bool              `json:"is_control_domain"`
	Metrics                     Ref               `json:"metrics"`
	GuestMetrics                Ref               `json:"guest_metrics"`
	LastBootedRecord            string            `json:"last_booted_record"`
	Recommendations             string            `json:"recommendations"`
	XenstoreData                map[string]string `json:"xenstore_data"`
	HAAlwaysRun                 bool              `json:"ha_always_run"`
	HARestartPriority           string            `json:"ha_restart_priority"`
	IsASnapshot                 bool              `json:"is_a_snapshot"`
	SnapshotOf                  Ref               `json:"snapshot_of"`
	Snapshots                   []Ref             `json:"snapshots"`
	SnapshotTime                Time              `json:"snapshot_time"`
	TransportableSnapshotID     string            `json:"transportable_snapshot_id"`
	Blobs                       map[string]Ref    `json:"blobs"`
	Tags                        []string          `json:"tags"`
	BlockedOperations           map[string]string `json:"blocked_operations"`
	SnapshotInfo                map[string]string `json:"snapshot_info"`
	SnapshotMetadata            string            `json:"snapshot_metadata"`
	Parent                      Ref               `json:"parent"`
	Children                    []Ref             `json:"children"`
	BIOSStrings                 map[string]string `json:"bios_strings"`
	ProtectionPolicy            Ref               `json:"protection_policy"`
	IsSnapshotFromVMPP          bool              `json:"is_snapshot_from_vmpp"`
	SnapshotSchedule            Ref               `json:"snapshot_schedule"`
	IsVMSSSnapshot              bool              `json:"is_vmss_snapshot"`
	Appliance                   Ref               `json:"appliance"`
	StartDelay                  int64             `json:"start_delay"`
	ShutdownDelay               int64             `json:"shutdown_delay"`
	Order                       int64             `json:"order"`
	VGPUs                       []Ref             `json:"VGPUs"`
	AttachedPCIs                []Ref             `json:"attached_PCIs"`
	SuspendSR                   Ref               `json:"suspend_SR"`
	Version                     int64             `json:"version"`
	GenerationID                string            `json:"generation_id"`
	HardwarePlatformVersion     int64             `json:"hardware_platform_version"`
	HasVendorDevice             bool              `json:"has_vendor_device"`
	RequiresReboot              bool              `json:"requires_reboot"`
	ReferenceLabel              string            `json:"reference_label"`
	DomainType                  string            `json:"domain_type"` // hvm, pvh
	NVRAM                       map[string]string `json:"NVRAM"`
	PendingGuidances            []string          `json:"pending_guidances"`
	PendingGuidancesRecommended []string          `json:"pending_guidances_recommended"`
	PendingGuidancesFull        []string          `json:"pending_guidances_full"`
	Groups                      []Ref             `json:"groups"`
	SecurebootCertificatesState string            `json:"secureboot_certificates_state"`
}

// VMMetrics are facts of a guest's run.
type VMMetrics struct {
	UUID              string              `json:"uuid"`
	MemoryActual      int64               `json:"memory_actual"`
	VCPUsNumber       int64               `json:"VCPUs_number"`
	VCPUsUtilisation  map[string]float64  `json:"VCPUs_utilisation"`
	VCPUsCPU          map[string]int64    `json:"VCPUs_CPU"`
	VCPUsParams       map[string]string   `json:"VCPUs_params"`
	VCPUsFlags        map[string][]string `json:"VCPUs_flags"`
	State             []string            `json:"state"`
	StartTime         Time                `json:"start_time"`
	InstallTime       Time                `json:"install_time"`
	LastUpdated       Time                `json:"last_updated"`
	OtherConfig       map[string]string   `json:"other_config"`
	HVM               bool                `json:"hvm"`
	NestedVirt        bool                `json:"nested_virt"`
	Nomigrate         bool                `json:"nomigrate"`
	CurrentDomainType string              `json:"current_domain_type"`
	NUMAOptimised     bool                `json:"numa_optimised"`
	NUMANodes         int64               `json:"numa_nodes"`
	NUMANodeMemory    map[string]int64    `json:"numa_node_memory"`
}

// VMGuestMetrics are what a guest says of itself through its agent.
type VMGuestMetrics struct {
	UUID              string            `json:"uuid"`
	OSVersion         map[string]string `json:"os_version"`
	NetbiosName       map[string]string `json:"netbios_name"`
	PVDriversVersion  map[string]string `json:"PV_drivers_version"`
	PVDriversUpToDate bool              `json:"PV_drivers_up_to_date"`
	Memory            map[string]string `json:"memory"`
	Disks             map[string]string `json:"disks"`
	Networks          map[string]string `json:"networks"` // "0/ip" -> address
	Other             map[string]string `json:"other"`
	LastUpdated       Time              `json:"last_updated"`
	OtherConfig       map[string]string `json:"other_config"`
	Live              bool              `json:"live"`
	CanUseHotplugVBD  string            `json:"can_use_hotplug_vbd"`
	CanUseHotplugVIF  string            `json:"can_use_hotplug_vif"`
	PVDriversDetected bool              `json:"PV_drivers_detected"`
	Services          map[string]string `json:"services"`
}

// VBD is a guest's block device.
type VBD struct {
	UUID                   string            `json:"uuid"`
	AllowedOperations      []string          `json:"allowed_operations"`
	CurrentOperations      map[string]string `json:"current_operations"`
	VM                     Ref               `json:"VM"`
	VDI                    Ref               `json:"VDI"`
	Device                 string            `json:"device"` // xvda, ...
	Userdevice             string            `json:"userdevice"`
	Bootable               bool              `json:"bootable"`
	Mode                   string            `json:"mode"` // RO, RW
	Type                   string            `json:"type"` // CD, Disk
	Unpluggable            bool              `json:"unpluggable"`
	StorageLock            bool              `json:"storage_lock"`
	Empty                  bool              `json:"empty"`
	OtherConfig            map[string]string `json:"other_config"`
	CurrentlyAttached      bool              `json:"currently_attached"`
	StatusCode             int64             `json:"status_code"`
	StatusDetail           string            `json:"status_detail"`
	RuntimeProperties      map[string]string `json:"runtime_properties"`
	QoSAlgorithmType       string            `json:"qos_algorithm_type"`
	QoSAlgorithmParams     map[string]string `json:"qos_algorithm_params"`
	QoSSupportedAlgorithms []string          `json:"qos_supported_algorithms"`
	Metrics                Ref               `json:"metrics"`
}

// VDI is a disk image.
type VDI struct {
	UUID                string            `json:"uuid"`
	NameLabel           string            `json:"name_label"`
	NameDescription     string            `json:"name_description"`
	AllowedOperations   []string          `json:"allowed_operations"`
	CurrentOperations   map[string]string `json:"current_operations"`
	SR                  Ref               `json:"SR"`
	VBDs                []Ref             `json:"VBDs"`
	CrashDumps          []Ref             `json:"crash_dumps"`
	VirtualSize         int64             `json:"virtual_size"`
	PhysicalUtilisation int64             `json:"physical_utilisation"`
	Type                string            `json:"type"`
	Sharable            bool              `json:"sharable"`
	ReadOnly            bool              `json:"read_only"`
	OtherConfig         map[string]string `json:"other_config"`
	StorageLock         bool              `json:"storage_lock"`
	Location            string            `json:"location"` // the image's path
	Managed             bool              `json:"managed"`
	Missing             bool              `json:"missing"`
	Parent              Ref               `json:"parent"`
	XenstoreData        map[string]string `json:"xenstore_data"`
	SMConfig            map[string]string `json:"sm_config"` // "image-format": raw, qcow2
	IsASnapshot         bool              `json:"is_a_snapshot"`
	SnapshotOf          Ref               `json:"snapshot_of"`
	Snapshots           []Ref             `json:"snapshots"`
	SnapshotTime        Time              `json:"snapshot_time"`
	Tags                []string          `json:"tags"`
	AllowCaching        bool              `json:"allow_caching"`
	OnBoot              string            `json:"on_boot"`
	MetadataOfPool      Ref               `json:"metadata_of_pool"`
	MetadataLatest      bool              `json:"metadata_latest"`
	IsToolsISO          bool              `json:"is_tools_iso"`
	CBTEnabled          bool              `json:"cbt_enabled"`
}

// SR is a place for disk images: the store, and images that lie outside it.
type SR struct {
	UUID                string            `json:"uuid"`
	NameLabel           string            `json:"name_label"`
	NameDescription     string            `json:"name_description"`
	AllowedOperations   []string          `json:"allowed_operations"`
	CurrentOperations   map[string]string `json:"current_operations"`
	VDIs                []Ref             `json:"VDIs"`
	PBDs                []Ref             `json:"PBDs"`
	VirtualAllocation   int64             `json:"virtual_allocation"`
	PhysicalUtilisation int64             `json:"physical_utilisation"`
	PhysicalSize        int64             `json:"physical_size"`
	Type                string            `json:"type"`
	ContentType         string            `json:"content_type"`
	Shared              bool              `json:"shared"`
	OtherConfig         map[string]string `json:"other_config"`
	Tags                []string          `json:"tags"`
	SMConfig            map[string]string `json:"sm_config"`
	Blobs               map[string]Ref    `json:"blobs"`
	LocalCacheEnabled   bool              `json:"local_cache_enabled"`
	IntroducedBy        Ref               `json:"introduced_by"`
	Clustered           bool              `json:"clustered"`
	IsToolsSR           bool              `json:"is_tools_sr"`
}

// VIF is a guest's network card.
type VIF struct {
	UUID                   string            `json:"uuid"`
	AllowedOperations      []string          `json:"allowed_operations"`
	CurrentOperations      map[string]string `json:"current_operations"`
	Device                 string            `json:"device"`
	Network                Ref               `json:"network"`
	VM                     Ref               `json:"VM"`
	MAC                    string            `json:"MAC"`
	MTU                    int64             `json:"MTU"`
	OtherConfig            map[string]string `json:"other_config"`
	CurrentlyAttached      bool              `json:"currently_attached"`
	StatusCode             int64             `json:"status_code"`
	StatusDetail           string            `json:"status_detail"`
	RuntimeProperties      map[string]string `json:"runtime_properties"`
	QoSAlgorithmType       string            `json:"qos_algorithm_type"`
	QoSAlgorithmParams     map[string]string `json:"qos_algorithm_params"`
	QoSSupportedAlgorithms []string          `json:"qos_supported_algorithms"`
	Metrics                Ref               `json:"metrics"`
	MACAutogenerated       bool              `json:"MAC_autogenerated"`
	LockingMode            string            `json:"locking_mode"`
	IPv4Allowed            []string          `json:"ipv4_allowed"`
	IPv6Allowed            []string          `json:"ipv6_allowed"`
	IPv4ConfigurationMode  string            `json:"ipv4_configuration_mode"`
	IPv4Addresses          []string          `json:"ipv4_addresses"`
	IPv4Gateway            string            `json:"ipv4_gateway"`
	IPv6ConfigurationMode  string            `json:"ipv6_configuration_mode"`
	IPv6Addresses          []string          `json:"ipv6_addresses"`
	IPv6Gateway            string            `json:"ipv6_gateway"`
	ReservedPCI            Ref               `json:"reserved_pci"`
	Trunks                 []int64           `json:"trunks"`
}

// Network joins guests' cards.
type Network struct {
	UUID               string            `json:"uuid"`
	NameLabel          string            `json:"name_label"`
	NameDescription    string            `json:"name_description"`
	AllowedOperations  []string          `json:"allowed_operations"`
	CurrentOperations  map[string]string `json:"current_operations"`
	VIFs               []Ref             `json:"VIFs"`
	PIFs               []Ref             `json:"PIFs"`
	MTU                int64             `json:"MTU"`
	OtherConfig        map[string]string `json:"other_config"`
	Bridge             string            `json:"bridge"`
	Managed            bool              `json:"managed"`
	Blobs              map[string]Ref    `json:"blobs"`
	Tags               []string          `json:"tags"`
	DefaultLockingMode string            `json:"default_locking_mode"`
	AssignedIPs        map[Ref]string    `json:"assigned_ips"` // VIF -> address
	Purpose            []string          `json:"purpose"`
}

// Console is a way to a guest's screen (rfb) or serial line (vt100).
type Console struct {
	UUID        string            `json:"uuid"`
	Protocol    string            `json:"protocol"`
	Location    string            `json:"location"` // where to CONNECT
	VM          Ref               `json:"VM"`
	OtherConfig map[string]string `json:"other_config"`
	Port        int64             `json:"port"`
}

// Console protocols.
const (
	ProtocolRFB   = "rfb"
	ProtocolVT100 = "vt100"
)

// Task is work under way, or how it ended.
type Task struct {
	UUID              string            `json:"uuid"`
	NameLabel         string            `json:"name_label"`
	NameDescription   string            `json:"name_description"`
	AllowedOperations []string          `json:"allowed_operations"` // "cancel" where it can be
	CurrentOperations map[string]string `json:"current_operations"`
	Created           Time              `json:"created"`
	Finished          Time              `json:"finished"`
	Status            string            `json:"status"` // pending, success, failure, cancelling, cancelled
	Session           Ref               `json:"session"`
	ResidentOn        Ref               `json:"resident_on"`
	Progress          float64           `json:"progress"` // 0..1
	Externalpid       int64             `json:"externalpid"`
	StunnelPID        int64             `json:"stunnelpid"`
	Forwarded         bool              `json:"forwarded"`
	ForwardedTo       Ref               `json:"forwarded_to"`
	Type              string            `json:"type"`
	Result            string            `json:"result"` // XML of the value, as xapi: <value>...</value>
	ErrorInfo         []string          `json:"error_info"`
	OtherConfig       map[string]string `json:"other_config"`
	SubtaskOf         Ref               `json:"subtask_of"`
	Subtasks          []Ref             `json:"subtasks"`
	Backtrace         string            `json:"backtrace"`
}

// Task states.
const (
	TaskPending    = "pending"
	TaskSuccess    = "success"
	TaskFailure    = "failure"
	TaskCancelling = "cancelling"
	TaskCancelled  = "cancelled"
)

// Session is a client that has logged in.
type Session struct {
	UUID              string            `json:"uuid"`
	ThisHost          Ref               `json:"this_host"`
	ThisUser          Ref               `json:"this_user"`
	LastActive        Time              `json:"last_active"`
	Pool              bool              `json:"pool"`
	OtherConfig       map[string]string `json:"other_config"`
	IsLocalSuperuser  bool              `json:"is_local_superuser"`
	Subject           Ref               `json:"subject"`
	ValidationTime    Time              `json:"validation_time"`
	AuthUserSID       string            `json:"auth_user_sid"`
	AuthUserName      string            `json:"auth_user_name"`
	RBACPermissions   []string          `json:"rbac_permissions"`
	Tasks             []Ref             `json:"tasks"`
	Parent            Ref               `json:"parent"`
	Originator        string            `json:"originator"`
	ClientCertificate bool              `json:"client_certificate"`
}
