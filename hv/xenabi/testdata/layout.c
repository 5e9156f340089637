/*
 * Prints the sizes and offsets that Xen's public headers (libxen-dev) have in
 * the eyes of a C compiler, without running anything, for both guest widths:
 *
 *	for m in 64 32; do
 *		gcc -m$m -ffreestanding -S -o - layout.c | sed -n 's/^->//p' > layout$m.txt
 *	done
 */
typedef __SIZE_TYPE__ size_t;
#include <stdint.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/memory.h>
#include <xen/features.h>
#include <xen/version.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/io/xs_wire.h>
#include <xen/io/console.h>

#define S(s) asm volatile("\n->" #s " %c0" : : "i"(sizeof(struct s)))
#define F(s, f) asm volatile("\n->" #s "." #f " %c0" : : "i"(__builtin_offsetof(struct s, f)))
#define T(s) asm volatile("\n->" #s " %c0" : : "i"(sizeof(s)))
#define TF(s, f) asm volatile("\n->" #s "." #f " %c0" : : "i"(__builtin_offsetof(s, f)))

void layout(void)
{
	S(hvm_start_info); F(hvm_start_info, magic); F(hvm_start_info, version); F(hvm_start_info, flags); F(hvm_start_info, nr_modules);
	F(hvm_start_info, modlist_paddr); F(hvm_start_info, cmdline_paddr); F(hvm_start_info, rsdp_paddr); F(hvm_start_info, memmap_paddr); F(hvm_start_info, memmap_entries);
	S(hvm_modlist_entry); F(hvm_modlist_entry, paddr); F(hvm_modlist_entry, size); F(hvm_modlist_entry, cmdline_paddr);
	S(hvm_memmap_table_entry); F(hvm_memmap_table_entry, addr); F(hvm_memmap_table_entry, size); F(hvm_memmap_table_entry, type);

	S(xen_add_to_physmap); F(xen_add_to_physmap, domid); F(xen_add_to_physmap, size); F(xen_add_to_physmap, space); F(xen_add_to_physmap, idx); F(xen_add_to_physmap, gpfn);
	S(xen_remove_from_physmap); F(xen_remove_from_physmap, domid); F(xen_remove_from_physmap, gpfn);
	S(xen_memory_map); F(xen_memory_map, nr_entries); F(xen_memory_map, buffer);
	S(xen_memory_reservation); F(xen_memory_reservation, extent_start); F(xen_memory_reservation, nr_extents); F(xen_memory_reservation, extent_order); F(xen_memory_reservation, mem_flags); F(xen_memory_reservation, domid);
	S(xen_feature_info); F(xen_feature_info, submap_idx); F(xen_feature_info, submap);
	S(xen_compile_info); F(xen_compile_info, compiler); F(xen_compile_info, compile_by); F(xen_compile_info, compile_domain); F(xen_compile_info, compile_date);
	S(xen_hvm_param); F(xen_hvm_param, domid); F(xen_hvm_param, index); F(xen_hvm_param, value);
	S(xen_hvm_evtchn_upcall_vector); F(xen_hvm_evtchn_upcall_vector, vcpu); F(xen_hvm_evtchn_upcall_vector, vector);

	S(sched_shutdown); F(sched_shutdown, reason);
	S(sched_remote_shutdown); F(sched_remote_shutdown, domain_id); F(sched_remote_shutdown, reason);
	S(sched_watchdog); F(sched_watchdog, id); F(sched_watchdog, timeout);
	S(sched_poll); F(sched_poll, ports); F(sched_poll, nr_ports); F(sched_poll, timeout);
	S(vcpu_runstate_info); F(vcpu_runstate_info, state); F(vcpu_runstate_info, state_entry_time); F(vcpu_runstate_info, time);
	S(vcpu_register_runstate_memory_area); F(vcpu_register_runstate_memory_area, addr);
	S(vcpu_set_periodic_timer); F(vcpu_set_periodic_timer, period_ns);
	S(vcpu_set_singleshot_timer); F(vcpu_set_singleshot_timer, timeout_abs_ns); F(vcpu_set_singleshot_timer, flags);
	S(vcpu_register_vcpu_info); F(vcpu_register_vcpu_info, mfn); F(vcpu_register_vcpu_info, offset);
	S(vcpu_time_info); F(vcpu_time_info, version); F(vcpu_time_info, tsc_timestamp); F(vcpu_time_info, system_time); F(vcpu_time_info, tsc_to_system_mul); F(vcpu_time_info, tsc_shift); F(vcpu_time_info, flags);
	S(vcpu_info); F(vcpu_info, evtchn_upcall_pending); F(vcpu_info, evtchn_upcall_mask); F(vcpu_info, evtchn_pending_sel); F(vcpu_info, arch); F(vcpu_info, time);
	S(shared_info); F(shared_info, vcpu_info); F(shared_info, evtchn_pending); F(shared_info, evtchn_mask); F(shared_info, wc_version); F(shared_info, wc_sec); F(shared_info, wc_nsec);
#ifdef __i386__
	F(shared_info, arch.wc_sec_hi);
#else
	F(shared_info, wc_sec_hi);
#endif
	S(multicall_entry); F(multicall_entry, op); F(multicall_entry, result); F(multicall_entry, args);

	S(evtchn_bind_interdomain); F(evtchn_bind_interdomain, remote_dom); F(evtchn_bind_interdomain, remote_port); F(evtchn_bind_interdomain, local_port);
	S(evtchn_bind_virq); F(evtchn_bind_virq, virq); F(evtchn_bind_virq, vcpu); F(evtchn_bind_virq, port);
	S(evtchn_close); F(evtchn_close, port);
	S(evtchn_send); F(evtchn_send, port);
	S(evtchn_status); F(evtchn_status, dom); F(evtchn_status, port); F(evtchn_status, status); F(evtchn_status, vcpu); F(evtchn_status, u.virq); F(evtchn_status, u.interdomain.port);
	S(evtchn_alloc_unbound); F(evtchn_alloc_unbound, dom); F(evtchn_alloc_unbound, remote_dom); F(evtchn_alloc_unbound, port);
	S(evtchn_bind_ipi); F(evtchn_bind_ipi, vcpu); F(evtchn_bind_ipi, port);
	S(evtchn_bind_vcpu); F(evtchn_bind_vcpu, port); F(evtchn_bind_vcpu, vcpu);
	S(evtchn_unmask); F(evtchn_unmask, port);
	S(evtchn_reset); F(evtchn_reset, dom);
	S(evtchn_init_control); F(evtchn_init_control, control_gfn); F(evtchn_init_control, offset); F(evtchn_init_control, vcpu); F(evtchn_init_control, link_bits);

	T(grant_entry_v1_t); TF(grant_entry_v1_t, flags); TF(grant_entry_v1_t, domid); TF(grant_entry_v1_t, frame);
	S(gnttab_query_size); F(gnttab_query_size, dom); F(gnttab_query_size, nr_frames); F(gnttab_query_size, max_nr_frames); F(gnttab_query_size, status);
	S(gnttab_set_version); F(gnttab_set_version, version);
	S(gnttab_get_version); F(gnttab_get_version, dom); F(gnttab_get_version, version);
	S(gnttab_setup_table); F(gnttab_setup_table, dom); F(gnttab_setup_table, nr_frames); F(gnttab_setup_table, status); F(gnttab_setup_table, frame_list);

	S(xsd_sockmsg); F(xsd_sockmsg, type); F(xsd_sockmsg, req_id); F(xsd_sockmsg, tx_id); F(xsd_sockmsg, len);
	S(xenstore_domain_interface); F(xenstore_domain_interface, req); F(xenstore_domain_interface, rsp); F(xenstore_domain_interface, req_cons); F(xenstore_domain_interface, req_prod);
	F(xenstore_domain_interface, rsp_cons); F(xenstore_domain_interface, rsp_prod); F(xenstore_domain_interface, server_features); F(xenstore_domain_interface, connection); F(xenstore_domain_interface, error);
	S(xencons_interface); F(xencons_interface, in); F(xencons_interface, out); F(xencons_interface, in_cons); F(xencons_interface, in_prod); F(xencons_interface, out_cons); F(xencons_interface, out_prod);
}
