package xenabi

// Hypercall numbers, xen.h.
const (
	HYPERVISOR_platform_op      = 7
	HYPERVISOR_memory_op        = 12
	HYPERVISOR_multicall        = 13
	HYPERVISOR_set_timer_op     = 15
	HYPERVISOR_xen_version      = 17
	HYPERVISOR_console_io       = 18
	HYPERVISOR_grant_table_op   = 20
	HYPERVISOR_vm_assist        = 21
	HYPERVISOR_vcpu_op          = 24
	HYPERVISOR_sched_op         = 29
	HYPERVISOR_event_channel_op = 32
	HYPERVISOR_physdev_op       = 33
	HYPERVISOR_hvm_op           = 34
	HYPERVISOR_sysctl           = 35
	HYPERVISOR_domctl           = 36
)

// Domain ids, xen.h.
const (
	DOMID_FIRST_RESERVED = 0x7ff0
	DOMID_SELF           = 0x7ff0
	DOMID_INVALID        = 0x7ff4
)

// Errors as hypercalls return them, negated; errno.h.
const (
	XEN_EPERM      = 1
	XEN_ENOENT     = 2
	XEN_ESRCH      = 3
	XEN_E2BIG      = 7
	XEN_EAGAIN     = 11
	XEN_ENOMEM     = 12
	XEN_EACCES     = 13
	XEN_EFAULT     = 14
	XEN_EBUSY      = 16
	XEN_EEXIST     = 17
	XEN_EINVAL     = 22
	XEN_ENOSPC     = 28
	XEN_ENOSYS     = 38
	XEN_ENODATA    = 61
	XEN_ETIME      = 62
	XEN_EOPNOTSUPP = 95
)

// xen_version, version.h, and its feature bits, features.h.
const (
	XENVER_version             = 0
	XENVER_extraversion        = 1
	XENVER_compile_info        = 2
	XENVER_capabilities        = 3
	XENVER_changeset           = 4
	XENVER_platform_parameters = 5
	XENVER_get_features        = 6
	XENVER_pagesize            = 7
	XENVER_guest_handle        = 8
	XENVER_commandline         = 9
	XENVER_build_id            = 10

	XENFEAT_writable_page_tables    = 0
	XENFEAT_auto_translated_physmap = 2
	XENFEAT_supervisor_mode_kernel  = 3
	XENFEAT_pae_pgdir_above_4gb     = 4
	XENFEAT_hvm_callback_vector     = 8
	XENFEAT_hvm_safe_pvclock        = 9
)

// memory_op, memory.h. The command is in the low MEMOP_EXTENT_SHIFT bits.
const (
	MEMOP_EXTENT_SHIFT = 6

	XENMEM_increase_reservation  = 0
	XENMEM_decrease_reservation  = 1
	XENMEM_maximum_ram_page      = 2
	XENMEM_current_reservation   = 3
	XENMEM_maximum_reservation   = 4
	XENMEM_populate_physmap      = 6
	XENMEM_add_to_physmap        = 7
	XENMEM_memory_map            = 9
	XENMEM_set_memory_map        = 13
	XENMEM_maximum_gpfn          = 14
	XENMEM_remove_from_physmap   = 15
	XENMEM_add_to_physmap_batch  = 23
	XENMAPSPACE_shared_info      = 0
	XENMAPSPACE_grant_table      = 1
	XENMAPIDX_grant_table_status = 1 << 31
)

// hvm_op, hvm/hvm_op.h and hvm/params.h.
const (
	HVMOP_set_param                = 0
	HVMOP_get_param                = 1
	HVMOP_pagetable_dying          = 9
	HVMOP_get_mem_type             = 15
	HVMOP_set_evtchn_upcall_vector = 23

	HVM_PARAM_CALLBACK_IRQ          = 0
	HVM_PARAM_STORE_PFN             = 1
	HVM_PARAM_STORE_EVTCHN          = 2
	HVM_PARAM_PAE_ENABLED           = 4
	HVM_PARAM_CONSOLE_PFN           = 17
	HVM_PARAM_CONSOLE_EVTCHN        = 18
	HVM_NR_PARAMS                   = 39
	HVM_PARAM_CALLBACK_TYPE_VECTOR  = 2
	HVM_PARAM_CALLBACK_IRQ_TYPE_BIT = 56
)

// vcpu_op, vcpu.h.
const (
	VCPUOP_initialise                     = 0
	VCPUOP_up                             = 1
	VCPUOP_down                           = 2
	VCPUOP_is_up                          = 3
	VCPUOP_get_runstate_info              = 4
	VCPUOP_register_runstate_memory_area  = 5
	VCPUOP_set_periodic_timer             = 6
	VCPUOP_stop_periodic_timer            = 7
	VCPUOP_set_singleshot_timer           = 8
	VCPUOP_stop_singleshot_timer          = 9
	VCPUOP_register_vcpu_info             = 10
	VCPUOP_register_vcpu_time_memory_area = 13
	VCPU_SSHOTTMR_future                  = 1 << 0

	RUNSTATE_running  = 0
	RUNSTATE_runnable = 1
	RUNSTATE_blocked  = 2
	RUNSTATE_offline  = 3
)

// sched_op, sched.h.
const (
	SCHEDOP_yield           = 0
	SCHEDOP_block           = 1
	SCHEDOP_shutdown        = 2
	SCHEDOP_poll            = 3
	SCHEDOP_remote_shutdown = 4
	SCHEDOP_shutdown_code   = 5
	SCHEDOP_watchdog        = 6
	SCHEDOP_pin_override    = 7

	SHUTDOWN_poweroff   = 0
	SHUTDOWN_reboot     = 1
	SHUTDOWN_suspend    = 2
	SHUTDOWN_crash      = 3
	SHUTDOWN_watchdog   = 4
	SHUTDOWN_soft_reset = 5
	SHUTDOWN_MAX        = 5
)

// console_io and vm_assist, xen.h.
const (
	CONSOLEIO_write = 0
	CONSOLEIO_read  = 1
)

// event_channel_op, event_channel.h, and virtual interrupts, xen.h.
const (
	EVTCHNOP_bind_interdomain = 0
	EVTCHNOP_bind_virq        = 1
	EVTCHNOP_bind_pirq        = 2
	EVTCHNOP_close            = 3
	EVTCHNOP_send             = 4
	EVTCHNOP_status           = 5
	EVTCHNOP_alloc_unbound    = 6
	EVTCHNOP_bind_ipi         = 7
	EVTCHNOP_bind_vcpu        = 8
	EVTCHNOP_unmask           = 9
	EVTCHNOP_reset            = 10
	EVTCHNOP_init_control     = 11
	EVTCHNOP_expand_array     = 12
	EVTCHNOP_set_priority     = 13

	EVTCHNSTAT_closed      = 0
	EVTCHNSTAT_unbound     = 1
	EVTCHNSTAT_interdomain = 2
	EVTCHNSTAT_pirq        = 3
	EVTCHNSTAT_virq        = 4
	EVTCHNSTAT_ipi         = 5

	VIRQ_TIMER    = 0
	VIRQ_DEBUG    = 1
	VIRQ_XENOPROF = 7
	VIRQ_XENPMU   = 13
	NR_VIRQS      = 24
)

// grant_table_op, grant_table.h.
const (
	GNTTABOP_map_grant_ref     = 0
	GNTTABOP_unmap_grant_ref   = 1
	GNTTABOP_setup_table       = 2
	GNTTABOP_dump_table        = 3
	GNTTABOP_copy              = 5
	GNTTABOP_query_size        = 6
	GNTTABOP_set_version       = 8
	GNTTABOP_get_status_frames = 9
	GNTTABOP_get_version       = 10

	GTF_permit_access = 1
	GTF_type_mask     = 3
	GTF_readonly      = 1 << 2

	GNTST_okay          = 0
	GNTST_general_error = -1
	GNTST_bad_domain    = -2
)

// The guest's start of day, arch-x86/hvm/start_info.h, and ELF notes, elfnote.h.
const (
	XEN_HVM_START_MAGIC_VALUE    = 0x336ec578
	XEN_HVM_MEMMAP_TYPE_RAM      = 1
	XEN_HVM_MEMMAP_TYPE_RESERVED = 2
	XEN_HVM_MEMMAP_TYPE_ACPI     = 3

	XEN_ELFNOTE_GUEST_OS           = 6
	XEN_ELFNOTE_GUEST_VERSION      = 7
	XEN_ELFNOTE_SUPPORTED_FEATURES = 17
	XEN_ELFNOTE_PHYS32_ENTRY       = 18
	XEN_ELFNOTE_PHYS32_RELOC       = 19
)

// CPUID leaves, arch-x86/cpuid.h.
const (
	XEN_CPUID_FIRST_LEAF    = 0x40000000
	XEN_CPUID_SIGNATURE_EBX = 0x566e6558
	XEN_CPUID_SIGNATURE_ECX = 0x65584d4d
	XEN_CPUID_SIGNATURE_EDX = 0x4d4d566e

	XEN_HVM_CPUID_VCPU_ID_PRESENT = 1 << 3
	XEN_HVM_CPUID_DOMID_PRESENT   = 1 << 4
	XEN_HVM_CPUID_UPCALL_VECTOR   = 1 << 6
)

// XenStore's messages and limits, io/xs_wire.h.
const (
	XS_CONTROL              = 0
	XS_DIRECTORY            = 1
	XS_READ                 = 2
	XS_GET_PERMS            = 3
	XS_WATCH                = 4
	XS_UNWATCH              = 5
	XS_TRANSACTION_START    = 6
	XS_TRANSACTION_END      = 7
	XS_INTRODUCE            = 8
	XS_RELEASE              = 9
	XS_GET_DOMAIN_PATH      = 10
	XS_WRITE                = 11
	XS_MKDIR                = 12
	XS_RM                   = 13
	XS_SET_PERMS            = 14
	XS_WATCH_EVENT          = 15
	XS_ERROR                = 16
	XS_IS_DOMAIN_INTRODUCED = 17
	XS_RESUME               = 18
	XS_SET_TARGET           = 19
	XS_RESET_WATCHES        = 21
	XS_DIRECTORY_PART       = 22

	XENSTORE_RING_SIZE    = 1024
	XENSTORE_PAYLOAD_MAX  = 4096
	XENSTORE_ABS_PATH_MAX = 3072
	XENSTORE_REL_PATH_MAX = 2048

	XENSTORE_CONNECTED                   = 0
	XENSTORE_RECONNECT                   = 1
	XENSTORE_SERVER_FEATURE_RECONNECTION = 1
	XENSTORE_ERROR_NONE                  = 0
	XENSTORE_ERROR_COMM                  = 1
	XENSTORE_ERROR_RINGIDX               = 2
	XENSTORE_ERROR_PROTO                 = 3
)
