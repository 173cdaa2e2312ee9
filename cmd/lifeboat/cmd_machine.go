package main

import (
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
)

func (a *app) machineCommand() *cobra.Command {
	return group("machine", "Look at the machines of all hosts",
		"  lifeboat machine list\n  lifeboat machine show db", "set",
		a.machineListCommand(), a.machineShowCommand(), a.machineLinkCommand(), a.machineRetireCommand())
}

type machineJSON struct {
	Host     string `json:"host"`
	HostID   string `json:"hostId"`
	Power    string `json:"power"`
	Recovery string `json:"recoveryRun,omitempty"`
	// Refused says why it cannot be exported, LeftOut why it is not.
	Refused string           `json:"refused,omitempty"`
	LeftOut string           `json:"leftOut,omitempty"`
	Machine lifeboat.Machine `json:"machine"`
}

func newMachineJSON(s *siteFile, m machineOn) machineJSON {
	return machineJSON{m.host.Name(), m.HostID, string(m.Power), m.Recovery, m.Refused, s.leftOut(m.host.Name(), m.Machine.Name), m.Machine}
}

func (a *app) machineListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List machines, their disks and what they are doing",
		Example:     "  lifeboat machine list\n  lifeboat machine list --json",
		Annotations: exits(exitPartial), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.siteOrNone()
			if err != nil {
				return err
			}
			all, unreachable := a.machines(c.Context(), s)
			if a.json {
				rows := []machineJSON{}
				for _, m := range all {
					rows = append(rows, newMachineJSON(s, m))
				}
				a.printJSON(rows)
			} else {
				var rows [][]string
				for _, m := range all {
					rows = append(rows, []string{m.Machine.Name, m.host.Name(), string(m.Power), string(m.Machine.Firmware.Kind),
						humanBytes(m.Machine.MemoryBytes), diskWords(m.Machine.Disks), remark(s, m)})
				}
				a.print("%s", remarks(a.columns(), []string{"MACHINE", "HOST", "POWER", "FIRMWARE", "MEMORY", "DISKS", ""}, rows))
			}
			if unreachable != nil {
				return &lifeboat.Problem{
					What: unreachable.Error(),
					Safe: "the machines of the other hosts are listed; nothing was changed",
					Next: "run: lifeboat host check",
					Err:  lifeboat.ErrPartial,
				}
			}
			return nil
		},
	}
}

// remark says in a listing why a machine is not exported, if it is not.
func remark(s *siteFile, m machineOn) string {
	switch left := s.leftOut(m.host.Name(), m.Machine.Name); {
	case m.Recovery != "":
		return "booted from a drive by run " + short(m.Recovery)
	case left != "":
		return left
	case m.Refused != "":
		return "cannot be exported: " + m.Refused
	default:
		return ""
	}
}

// diskWords says a machine's disks in a few words: "vda 8.0 GiB, swap 2.0 GiB (excluded)".
func diskWords(disks []lifeboat.Disk) string {
	var words []string
	for _, d := range disks {
		w := d.Key + " " + humanBytes(d.SizeBytes)
		if d.Excluded != "" {
			w += " (excluded)"
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

func (a *app) machineShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show MACHINE", Short: "Show everything that is needed to build a machine again",
		Example:     "  lifeboat machine show db\n  lifeboat machine show lab/db --json",
		Annotations: exits(), Args: exactArgs("the name of a machine"),
		ValidArgsFunction: a.completeMachines,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.siteOrNone()
			if err != nil {
				return err
			}
			all, unreachable := a.machinesNamed(c.Context(), s, args)
			found, err := findMachines(all, args)
			if err != nil {
				if unreachable != nil {
					return unreachable
				}
				return err
			}
			m := found[0]
			if a.json {
				a.printJSON(newMachineJSON(s, m))
				return nil
			}
			a.print("%s on host %s, %s\n%s", m.Machine.Name, m.host.Name(), m.Power, describeMachine(m.Machine))
			if why := remark(s, m); why != "" {
				a.note("%s", why)
			}
			return nil
		},
	}
}
