package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/netlab"
)

// given are files that a QEMU inherits. One that is missing leaves its number free.
type given []*os.File

// firstGiven is the descriptor of the first of them.
const firstGiven = 3

func (g given) close() {
	for _, f := range g {
		if f != nil {
			f.Close()
		}
	}
}

// openCables opens the cables of the cards that are plugged into a lab, and returns
// the descriptors that QEMU will have for them. The lab makes them: QEMU itself stays
// outside, and needs no right to change networks.
func (m *machine) openCables(ctx context.Context, give *given) (map[int]int, error) {
	cables := map[int]int{}
	for i, n := range m.def.Networks {
		if n.Kind != hypervisor.NetworkLab {
			continue
		}
		cable, err := netlab.Client{Dir: n.Lab}.Tap(ctx, n.Name)
		if err != nil {
			(*give)[1:].close()
			return nil, m.noCable(n, err)
		}
		cables[i] = firstGiven + len(*give)
		*give = append(*give, cable)
	}
	return cables, nil
}

// noCable is the problem of a machine whose lab does not take it.
func (m *machine) noCable(n hypervisor.Network, err error) error {
	p := &lifeboat.Problem{
		What: fmt.Sprintf("%s: it cannot be plugged into network %q of its lab", m.name(), n.Name),
		Safe: "it was not started, and its disks were not changed",
		Next: "read what the lab says in " + n.Lab,
		Err:  err,
	}
	if errors.Is(err, netlab.ErrNoLab) {
		p.What = fmt.Sprintf("%s: the lab that it is plugged into is not there", m.name())
		p.Next = "go on with its run, which opens the lab again (drill or recover --resume); or remove what the run left: lifeboat drill cleanup"
	}
	return p
}
