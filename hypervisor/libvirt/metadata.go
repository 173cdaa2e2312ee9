package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// metadataNamespace marks the element that Lifeboat keeps in a domain's
// <metadata>. libvirt gives every namespace one element and never looks inside.
const metadataNamespace = "urn:lifeboat:machine:1"

// ours is what Lifeboat writes into the domains that it defines. Production's
// domains carry none of it: their id follows from their UUID.
type ours struct {
	XMLName xml.Name `xml:"urn:lifeboat:machine:1 machine"`
	// ID is the machine's Lifeboat id.
	ID string `xml:"id,attr"`
	// Domain is the UUID of the domain that it was written for. A copy of a
	// definition (virt-clone) carries this element along and is another machine.
	Domain string `xml:"domain,attr,omitempty"`
	// Recovery is the run that booted the machine from a drive, or empty.
	Recovery string `xml:"recovery,attr,omitempty"`
	// Name is the machine's, where libvirt takes no such name.
	Name string `xml:"name,attr,omitempty"`
	// UUID is the one that the guest sees, where the domain has another one.
	UUID string `xml:"uuid,attr,omitempty"`
	// What the machine is and this domain may not show, because its host cannot do
	// it: libvirt has no word for the first two, and a host without KVM gives
	// another processor and no enlightenments.
	Family string `xml:"family,attr,omitempty"`
	System string `xml:"system,attr,omitempty"`
	CPU    string `xml:"cpu,attr,omitempty"`
	HyperV string `xml:"hyperv,attr,omitempty"`
	// Making says that Define has not come to its end.
	Making bool `xml:"making,attr,omitempty"`
	// Pool is the storage pool of the volumes in Made, which Define and Settle
	// made: they go with the machine.
	Pool string   `xml:"pool,attr,omitempty"`
	Made []string `xml:"made,omitempty"`
}

// oursOf is what stands in the definition of a machine whose files are made in
// that pool.
func oursOf(m *lifeboat.Machine, recovery, pool string) ours {
	return ours{ID: m.ID, Recovery: recovery, Pool: pool, Family: hypervisor.GuestWords(m.GuestFamily),
		System: hypervisor.GuestWords(m.GuestSystem), CPU: hypervisor.GuestWords(m.CPUModel), HyperV: hypervisor.Printable(strings.Join(m.HyperV, " "))}
}

// adopt gives a machine what its domain does not show.
func (o ours) adopt(m *lifeboat.Machine) {
	for _, kept := range []struct {
		text string
		into *string
	}{{o.Family, &m.GuestFamily}, {o.System, &m.GuestSystem}, {o.CPU, &m.CPUModel}} {
		if kept.text != "" {
			*kept.into = hypervisor.GuestWords(kept.text)
		}
	}
	if o.HyperV != "" && len(o.HyperV) < 1<<10 {
		m.HyperV = strings.Fields(hypervisor.Printable(o.HyperV))
	}
}

// parseOurs finds the element among those of others in a domain's <metadata>.
// Without one it returns false; one that is not in order is an error.
func parseOurs(metadata string) (o ours, found bool, err error) {
	var all struct {
		Ours []ours `xml:"urn:lifeboat:machine:1 machine"`
	}
	if err := xml.Unmarshal([]byte("<metadata>"+metadata+"</metadata>"), &all); err != nil {
		return ours{}, false, fmt.Errorf("read the metadata: %w", err)
	}
	switch {
	case len(all.Ours) == 0:
		return ours{}, false, nil
	case len(all.Ours) > 1:
		return ours{}, false, errors.New("it says twice which machine of Lifeboat it is")
	}
	return all.Ours[0], true, all.Ours[0].check()
}

// oursIn is parseOurs of a domain; what was written for another is none of it.
func oursIn(doc *libvirtxml.Domain) (o ours, found bool, err error) {
	o, found, err = parseOurs(metadata(doc))
	if err != nil || !o.isFor(doc.UUID) {
		return ours{}, false, err
	}
	return o, found, nil
}

// isFor says that the element belongs to the domain of that UUID.
func (o ours) isFor(uuid string) bool { return o.Domain == "" || strings.EqualFold(o.Domain, uuid) }

// parseElement reads the element as libvirt gives it out alone: without the
// namespace that it was asked for by.
func parseElement(text string) (ours, error) {
	var own ours
	dec := xml.NewDecoder(strings.NewReader(text))
	dec.DefaultSpace = metadataNamespace
	if err := dec.Decode(&own); err != nil {
		return ours{}, fmt.Errorf("read the metadata: %w", err)
	}
	return own, own.check()
}

func (o ours) check() error {
	if !isID(o.ID) {
		return fmt.Errorf("its metadata has no id of Lifeboat: %q", hypervisor.GuestWords(o.ID))
	}
	return nil
}

// text is the element for <metadata>.
func (o ours) text() string {
	out, err := xml.Marshal(o)
	if err != nil {
		panic("strings always have a form: " + err.Error())
	}
	return string(out)
}

// isID says that text is a Lifeboat id: 32 lower-case hex digits.
func isID(text string) bool {
	if len(text) != 32 {
		return false
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
