package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"lifeboat/hypervisor/libvirt"
	"lifeboat/hypervisor/vsphere"
)

// The kinds of hosts, as site.yaml calls them.
const (
	kindQEMU    = "qemu"
	kindLibvirt = libvirt.Kind
	kindVSphere = vsphere.Kind
)

// kindNames are all kinds of hosts.
var kindNames = []string{kindQEMU, kindLibvirt, kindVSphere}

// hostFile is one host in site.yaml. Which fields go with which kind is checked
// by [hostFile.check]. It holds no password.
type hostFile struct {
	Name string `yaml:"name" json:"name"`
	// Kind is one of kindNames.
	Kind string `yaml:"kind" json:"kind"`

	// Dir is the folder of machine definitions of a qemu host.
	Dir string `yaml:"dir,omitempty" json:"dir,omitempty"`
	// Scratch is where exports of a qemu or libvirt host keep what guests
	// overwrite meanwhile.
	Scratch string `yaml:"scratch,omitempty" json:"scratch,omitempty"`

	// URI is libvirt's own address of a libvirtd.
	URI string `yaml:"uri,omitempty" json:"uri,omitempty"`
	// Pool is the storage pool of a libvirt host, or the resource pool of a
	// vsphere one, that new machines get.
	Pool string `yaml:"pool,omitempty" json:"pool,omitempty"`

	// NoTracking keeps no checkpoints on the machines of a libvirt host.
	NoTracking bool `yaml:"noTracking,omitempty" json:"noTracking,omitempty"`

	// URL is the address of a vCenter or an ESXi, User who signs in there, and
	// Thumbprint the certificate that is believed although nobody vouches for it.
	URL        string `yaml:"url,omitempty" json:"url,omitempty"`
	User       string `yaml:"user,omitempty" json:"user,omitempty"`
	Thumbprint string `yaml:"thumbprint,omitempty" json:"thumbprint,omitempty"`
	// Where machines are looked for and put on a vsphere host.
	Datacenter string `yaml:"datacenter,omitempty" json:"datacenter,omitempty"`
	Cluster    string `yaml:"cluster,omitempty" json:"cluster,omitempty"`
	Datastore  string `yaml:"datastore,omitempty" json:"datastore,omitempty"`
	Folder     string `yaml:"folder,omitempty" json:"folder,omitempty"`

	// Machines is how many machines of this host are exported at the same time,
	// Streams how many disks of one datastore of a vsphere host are read at once.
	// Zero means no limit of the host's own, and vsphere's default.
	Machines int `yaml:"machines,omitempty" json:"machines,omitempty"`
	Streams  int `yaml:"streams,omitempty" json:"streams,omitempty"`
}

// hostField is a text field of a host.
type hostField struct {
	name  string
	value string
	// kinds of hosts that have it, and whether they have to.
	kinds    []string
	required bool
}

func (h hostFile) fields() []hostField {
	return []hostField{
		{"dir", h.Dir, []string{kindQEMU}, true},
		{"scratch", h.Scratch, []string{kindQEMU, kindLibvirt}, false},
		{"uri", h.URI, []string{kindLibvirt}, true},
		{"pool", h.Pool, []string{kindLibvirt, kindVSphere}, false},
		{"url", h.URL, []string{kindVSphere}, true},
		{"user", h.User, []string{kindVSphere}, true},
		{"thumbprint", h.Thumbprint, []string{kindVSphere}, false},
		{"datacenter", h.Datacenter, []string{kindVSphere}, false},
		{"cluster", h.Cluster, []string{kindVSphere}, false},
		{"datastore", h.Datastore, []string{kindVSphere}, false},
		{"folder", h.Folder, []string{kindVSphere}, false},
	}
}

// check finds what cannot be meant, in the words of site.yaml.
func (h hostFile) check() error {
	if err := checkHostName(h.Name); err != nil {
		return err
	}
	if !slices.Contains(kindNames, h.Kind) {
		return fmt.Errorf("host %q: kind %q is not one of: %s", h.Name, h.Kind, strings.Join(kindNames, ", "))
	}
	for _, f := range h.fields() {
		has := slices.Contains(f.kinds, h.Kind)
		switch {
		case has && f.required && f.value == "":
			return fmt.Errorf("host %q: %s is missing: a %s host needs it", h.Name, f.name, h.Kind)
		case !has && f.value != "":
			return fmt.Errorf("host %q: %s does not go with kind %s (only with %s)", h.Name, f.name, h.Kind, strings.Join(f.kinds, ", "))
		}
	}
	switch {
	case h.Machines < 0 || h.Streams < 0:
		return fmt.Errorf("host %q: machines and streams must not be negative", h.Name)
	case h.NoTracking && h.Kind != kindLibvirt:
		return fmt.Errorf("host %q: noTracking does not go with kind %s (only with %s)", h.Name, h.Kind, kindLibvirt)
	case h.Streams > 0 && h.Kind != kindVSphere:
		return fmt.Errorf("host %q: streams does not go with kind %s (only with %s)", h.Name, h.Kind, kindVSphere)
	}
	return nil
}

// hostNameLimit fits a column of a table.
const hostNameLimit = 64

// checkHostName refuses what could not be said as HOST/MACHINE on one line.
func checkHostName(name string) error {
	switch {
	case name == "":
		return errors.New("a host needs a name")
	case plainText(name) != name || oneLine(name) != name || strings.ContainsRune(name, '/'):
		return fmt.Errorf("%q cannot be the name of a host: it has to be plain text without a slash", name)
	case utf8.RuneCountInString(name) > hostNameLimit:
		return fmt.Errorf("the name of a host has at most %d characters", hostNameLimit)
	}
	return nil
}

// where says in a word where a host is.
func (h hostFile) where() string { return h.Dir + h.URI + h.URL }

// samePlace says whether two hosts have the same machines. Each data centre of a
// vCenter may be a host of its own.
func (h hostFile) samePlace(other hostFile) bool {
	return h.Kind == other.Kind && strings.TrimRight(h.where(), "/") == strings.TrimRight(other.where(), "/") && h.Datacenter == other.Datacenter
}
