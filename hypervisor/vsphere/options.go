// Package vsphere reads and builds machines of a vCenter or of a single ESXi.
//
// It owns the snapshots that it makes and the machines that Define uploads. It
// promises what hypervisor.Host promises. It never lets a session or a snapshot
// outlive its use, and believes a server only with its certificate verified or
// pinned.
package vsphere

import "lifeboat/hypervisor"

// Kind is what definitions and derived ids call this kind of host.
const Kind = "vsphere"

// The ways of reading a disk, for hypervisor.FreezeOptions.Method.
const (
	// MethodRanges reads ranges of the disk's flat extent through the datastore,
	// with the areas that changed block tracking names.
	MethodRanges = "ranges"
	// MethodNFC takes the whole disk as one compressed stream.
	MethodNFC = "nfc"
)

// Options say which server, and where on it new machines are put.
type Options struct {
	// Name is what the operator called the host.
	Name string
	// URL is the server's, for example "https://vc.example.com".
	URL string
	// User and Password sign in.
	User, Password string
	// Thumbprint pins the server's certificate (SHA-256 or SHA-1, hex digits
	// with or without colons). Empty means that it is verified as usual.
	Thumbprint string
	// Datacenter, Cluster (or host), Pool, Datastore and Folder say where
	// machines are looked for and put; empty means the only one, or all when
	// looking.
	Datacenter, Cluster, Pool, Datastore, Folder string
	// StreamsPerDatastore bounds how many disks of one datastore are read at the
	// same time; zero means 2.
	StreamsPerDatastore int
	// Notes remember what was read and how. Nil keeps none.
	Notes hypervisor.Notes
	// Note receives what an operator should know though nothing failed. It may
	// be nil.
	Note func(machine, text string)
}
