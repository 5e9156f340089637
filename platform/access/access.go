// Package access is about Windows' access lists: who may use a folder or a file
// beside its owner. HXEN's service has an account of its own there; elsewhere it
// runs as the user whose guests it has, and nothing in this package does anything.
//
//	Me() string                       this user's security identifier
//	Service() string                  that of the service's account
//	SID(account) (string, error)      that of an account by its name (Windows only, as what follows but Lend)
//	Trusted(dir) error                whether only people of trust can have made a folder
//	Protect(dir, who...) error        make a folder for these and administrators alone
//	Make(dir, list) error             make a folder with an access list
//	Lend(path, who, write) error      let somebody use a file or a folder as well
package access

// ServiceName is what the system knows HXEN's service by.
const ServiceName = "hxen"
