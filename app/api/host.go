package api

// Host is the computer that guests run on.
type Host struct {
	UUID                            string            `json:"uuid"`
	NameLabel                       string            `json:"name_label"`
	NameDescription                 string            `json:"name_description"`
	MemoryOverhead                  int64             `json:"memory_overhead"` // bytes
	AllowedOperations               []string          `json:"allowed_operations"`
	CurrentOperations               map[string]string `json:"current_operations"`
	APIVersionMajor                 int64             `json:"API_version_major"`
	APIVersionMinor                 int64             `json:"API_version_minor"`
	APIVersionVendor                string            `json:"API_version_vendor"`
	APIVersionVendorImplementation  map[string]string `json:"API_version_vendor_implementation"`
	Enabled                         bool              `json:"enabled"`
	SoftwareVersion                 map[string]string `json:"software_version"`
	OtherConfig                     map[string]string `json:"other_config"`
	Capabilities                    []string          `json:"capabilities"`
	CPUConfiguration                map[string]string `json:"cpu_configuration"`
	SchedPolicy                     string            `json:"sched_policy"`
	SupportedBootloaders            []string          `json:"supported_bootloaders"`
	ResidentVMs                     []Ref             `json:"resident_VMs"`
	Logging                         map[string]string `json:"logging"`
	PIFs                            []Ref             `json:"PIFs"`
	SuspendImageSR                  Ref               `json:"suspend_image_sr"`
	CrashDumpSR                     Ref               `json:"crash_dump_sr"`
	Crashdumps                      []Ref             `json:"crashdumps"`
	Patches                         []Ref             `json:"patches"`
	Updates                         []Ref             `json:"updates"`
	PBDs                            []Ref             `json:"PBDs"`
	HostCPUs                        []Ref             `json:"host_CPUs"`
	CPUInfo                         map[string]string `json:"cpu_info"`
	Hostname                        string            `json:"hostname"`
	Address                         string            `json:"address"`
	Metrics                         Ref               `json:"metrics"`
	LicenseParams                   map[string]string `json:"license_params"`
	HAStatefiles                    []string          `json:"ha_statefiles"`
	HANetworkPeers                  []string          `json:"ha_network_peers"`
	Blobs                           map[string]Ref    `json:"blobs"`
	Tags                            []string          `json:"tags"`
	ExternalAuthType                string            `json:"external_auth_type"`
	ExternalAuthServiceName         string            `json:"external_auth_service_name"`
	ExternalAuthConfiguration       map[string]string `json:"external_auth_configuration"`
	Edition                         string            `json:"edition"`
	LicenseServer                   map[string]string `json:"license_server"`
	BIOSStrings                     map[string]string `json:"bios_strings"`
	PowerOnMode                     string            `json:"power_on_mode"`
	PowerOnConfig                   map[string]string `json:"power_on_config"`
	LocalCacheSR                    Ref               `json:"local_cache_sr"`
	ChipsetInfo                     map[string]string `json:"chipset_info"`
	PCIs                            []Ref             `json:"PCIs"`
	PGPUs                           []Ref             `json:"PGPUs"`
	PUSBs                           []Ref             `json:"PUSBs"`
	SSLLegacy                       bool              `json:"ssl_legacy"`
	GuestVCPUsParams                map[string]string `json:"guest_VCPUs_params"`
	Display                         string            `json:"display"` // enabled, enable_on_reboot, disabled, disable_on_reboot
	VirtualHardwarePlatformVersions []int64           `json:"virtual_hardware_platform_versions"`
	ControlDomain                   Ref               `json:"control_domain"`
	UpdatesRequiringReboot          []Ref             `json:"updates_requiring_reboot"`
	Features                        []Ref             `json:"features"`
	ISCSIIQN                        string            `json:"iscsi_iqn"`
	Multipathing                    bool              `json:"multipathing"`
	UEFICertificates                string            `json:"uefi_certificates"`
	Certificates                    []Ref             `json:"certificates"`
	Editions                        []string          `json:"editions"`
	PendingGuidances                []string          `json:"pending_guidances"`
	TLSVerificationEnabled          bool              `json:"tls_verification_enabled"`
	LastSoftwareUpdate              Time              `json:"last_software_update"`
	HTTPSOnly                       bool              `json:"https_only"`
	LatestSyncedUpdatesApplied      string            `json:"latest_synced_updates_applied"` // yes, no, unknown
	NUMAAffinityPolicy              string            `json:"numa_affinity_policy"`          // any, best_effort, best_effort_hard, default_policy
	PendingGuidancesRecommended     []string          `json:"pending_guidances_recommended"`
	PendingGuidancesFull            []string          `json:"pending_guidances_full"`
	LastUpdateHash                  string            `json:"last_update_hash"`
	SSHEnabled                      bool              `json:"ssh_enabled"`
	SSHEnabledTimeout               int64             `json:"ssh_enabled_timeout"`
	SSHExpiry                       Time              `json:"ssh_expiry"`
	ConsoleIdleTimeout              int64             `json:"console_idle_timeout"`
	SSHAutoMode                     bool              `json:"ssh_auto_mode"`
	MaxCState                       string            `json:"max_cstate"`
	SecureBoot                      bool              `json:"secure_boot"`
	NTPMode                         string            `json:"ntp_mode"` // DHCP, Custom, Factory, Disabled
	NTPCustomServers                []string          `json:"ntp_custom_servers"`
	Timezone                        string            `json:"timezone"`
}

// HostMetrics are facts of the host.
type HostMetrics struct {
	UUID        string            `json:"uuid"`
	MemoryTotal int64             `json:"memory_total"` // bytes
	MemoryFree  int64             `json:"memory_free"`  // bytes
	Live        bool              `json:"live"`
	LastUpdated Time              `json:"last_updated"`
	OtherConfig map[string]string `json:"other_config"`
}

// HostCPU is one processor of the host.
type HostCPU struct {
	UUID        string            `json:"uuid"`
	Host        Ref               `json:"host"`
	Number      int64             `json:"number"`
	Vendor      string            `json:"vendor"`
	Speed       int64             `json:"speed"` // MHz
	Modelname   string            `json:"modelname"`
	Family      int64             `json:"family"`
	Model       int64             `json:"model"`
	Stepping    string            `json:"stepping"`
	Flags       string            `json:"flags"`
	Features    string            `json:"features"`
	Utilisation float64           `json:"utilisation"` // 0..1
	OtherConfig map[string]string `json:"other_config"`
}

// Pool is the one group of hosts: here always one host.
type Pool struct {
	UUID                               string            `json:"uuid"`
	NameLabel                          string            `json:"name_label"`
	NameDescription                    string            `json:"name_description"`
	Master                             Ref               `json:"master"`
	DefaultSR                          Ref               `json:"default_SR"`
	SuspendImageSR                     Ref               `json:"suspend_image_SR"`
	CrashDumpSR                        Ref               `json:"crash_dump_SR"`
	OtherConfig                        map[string]string `json:"other_config"`
	HAEnabled                          bool              `json:"ha_enabled"`
	HAConfiguration                    map[string]string `json:"ha_configuration"`
	HAStatefiles                       []string          `json:"ha_statefiles"`
	HAHostFailuresToTolerate           int64             `json:"ha_host_failures_to_tolerate"`
	HAPlanExistsFor                    int64             `json:"ha_plan_exists_for"`
	HAAllowOvercommit                  bool              `json:"ha_allow_overcommit"`
	HAOvercommitted                    bool              `json:"ha_overcommitted"`
	Blobs                              map[string]Ref    `json:"blobs"`
	Tags                               []string          `json:"tags"`
	GUIConfig                          map[string]string `json:"gui_config"`
	HealthCheckConfig                  map[string]string `json:"health_check_config"`
	WLBURL                             string            `json:"wlb_url"`
	WLBUsername                        string            `json:"wlb_username"`
	WLBEnabled                         bool              `json:"wlb_enabled"`
	WLBVerifyCert                      bool              `json:"wlb_verify_cert"`
	RedoLogEnabled                     bool              `json:"redo_log_enabled"`
	RedoLogVDI                         Ref               `json:"redo_log_vdi"`
	VswitchController                  string            `json:"vswitch_controller"`
	Restrictions                       map[string]string `json:"restrictions"`
	MetadataVDIs                       []Ref             `json:"metadata_VDIs"`
	HAClusterStack                     string            `json:"ha_cluster_stack"`
	AllowedOperations                  []string          `json:"allowed_operations"`
	CurrentOperations                  map[string]string `json:"current_operations"`
	GuestAgentConfig                   map[string]string `json:"guest_agent_config"`
	CPUInfo                            map[string]string `json:"cpu_info"`
	PolicyNoVendorDevice               bool              `json:"policy_no_vendor_device"`
	LivePatchingDisabled               bool              `json:"live_patching_disabled"`
	IGMPSnoopingEnabled                bool              `json:"igmp_snooping_enabled"`
	UEFICertificates                   string            `json:"uefi_certificates"`
	CustomUEFICertificates             string            `json:"custom_uefi_certificates"`
	IsPSRPending                       bool              `json:"is_psr_pending"`
	TLSVerificationEnabled             bool              `json:"tls_verification_enabled"`
	Repositories                       []Ref             `json:"repositories"`
	ClientCertificateAuthEnabled       bool              `json:"client_certificate_auth_enabled"`
	ClientCertificateAuthName          string            `json:"client_certificate_auth_name"`
	RepositoryProxyURL                 string            `json:"repository_proxy_url"`
	RepositoryProxyUsername            string            `json:"repository_proxy_username"`
	RepositoryProxyPassword            Ref               `json:"repository_proxy_password"`
	MigrationCompression               bool              `json:"migration_compression"`
	CoordinatorBias                    bool              `json:"coordinator_bias"`
	LocalAuthMaxThreads                int64             `json:"local_auth_max_threads"`
	ExtAuthMaxThreads                  int64             `json:"ext_auth_max_threads"`
	ExtAuthCacheEnabled                bool              `json:"ext_auth_cache_enabled"`
	ExtAuthCacheSize                   int64             `json:"ext_auth_cache_size"`
	ExtAuthCacheExpiry                 int64             `json:"ext_auth_cache_expiry"`
	TelemetryUUID                      Ref               `json:"telemetry_uuid"`
	TelemetryFrequency                 string            `json:"telemetry_frequency"` // daily, weekly, monthly
	TelemetryNextCollection            Time              `json:"telemetry_next_collection"`
	LastUpdateSync                     Time              `json:"last_update_sync"`
	UpdateSyncFrequency                string            `json:"update_sync_frequency"` // daily, weekly
	UpdateSyncDay                      int64             `json:"update_sync_day"`
	UpdateSyncEnabled                  bool              `json:"update_sync_enabled"`
	Recommendations                    map[string]string `json:"recommendations"`
	LicenseServer                      map[string]string `json:"license_server"`
	HARebootVMOnInternalShutdown       bool              `json:"ha_reboot_vm_on_internal_shutdown"`
	LimitConsoleSessions               bool              `json:"limit_console_sessions"`
	VMConsoleIdleTimeout               int64             `json:"vm_console_idle_timeout"`
	AutoUpdateVMSecurebootCertificates bool              `json:"auto_update_vm_secureboot_certificates"`
}

// PBD joins a host to a place for disk images.
type PBD struct {
	UUID              string            `json:"uuid"`
	Host              Ref               `json:"host"`
	SR                Ref               `json:"SR"`
	DeviceConfig      map[string]string `json:"device_config"`
	CurrentlyAttached bool              `json:"currently_attached"`
	OtherConfig       map[string]string `json:"other_config"`
}
