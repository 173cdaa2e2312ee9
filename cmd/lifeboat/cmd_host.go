package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/hypervisor"
)

func (a *app) hostCommand() *cobra.Command {
	return group("host", "Say where machines run",
		"  lifeboat host add lab --dir /srv/machines\n  lifeboat host check", "set",
		a.hostAddCommand(), a.hostListCommand(), a.hostCheckCommand())
}

func (a *app) hostAddCommand() *cobra.Command {
	var h hostFile
	c := &cobra.Command{
		Use: "add NAME --dir DIR", Short: "Add a host",
		Long: "Adds a host to the site. A qemu host is a folder with one folder for each machine\n" +
			"(docs/reference/qemu-host.md); its machines run on this computer.",
		Example:     "  lifeboat host add lab --dir /srv/machines\n  lifeboat host add lab --dir /srv/machines --scratch /var/tmp",
		Annotations: exits(), Args: exactArgs("a name for the host"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.loadSite()
			if err != nil {
				return err
			}
			h.Name = args[0]
			if h.Kind != "qemu" {
				return usagef("--kind %q is not one of: qemu", h.Kind)
			}
			if h.Dir == "" {
				return usagef("a qemu host needs the folder of its machines: --dir DIR")
			}
			if h.Dir, err = filepath.Abs(h.Dir); err != nil {
				return err
			}
			if h.Scratch != "" {
				if h.Scratch, err = filepath.Abs(h.Scratch); err != nil {
					return err
				}
			}
			for _, other := range a.hostFiles(s) {
				if other.Name == h.Name {
					return usagef("there is a host %q already", h.Name)
				}
			}
			if _, err := os.Stat(h.Dir); err != nil {
				return usagef("--dir: %v", err)
			}
			s.Hosts = append(s.Hosts, h)
			if err := a.saveSite(s); err != nil {
				return err
			}
			a.note("host %s added; what works on it: lifeboat host check %s", h.Name, h.Name)
			if a.json {
				a.printJSON(h)
			}
			return nil
		},
	}
	c.Flags().StringVar(&h.Kind, "kind", "qemu", "kind of host: qemu")
	c.Flags().StringVar(&h.Dir, "dir", "", "folder with one folder for each machine")
	c.Flags().StringVar(&h.Scratch, "scratch", "", "folder that keeps what guests overwrite while they are exported")
	return c
}

func (a *app) hostListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the hosts",
		Example:     "  lifeboat host list\n  lifeboat host list --json",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.siteOrNone()
			if err != nil {
				return err
			}
			all := a.hostFiles(s)
			if a.json {
				a.printJSON(all)
				return nil
			}
			var rows [][]string
			for _, h := range all {
				rows = append(rows, []string{h.Name, h.Kind, h.Dir})
			}
			a.print("%s", table([]string{"HOST", "KIND", "WHERE"}, rows))
			return nil
		},
	}
}

func (a *app) hostCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [HOST]", Short: "Say what works on a host and what does not, without changing anything",
		Example:     "  lifeboat host check\n  lifeboat host check lab --json",
		Annotations: exits(exitPartial), Args: oneArgAtMost("the name of a host"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.siteOrNone()
			if err != nil {
				return err
			}
			type checked struct {
				Host     string               `json:"host"`
				Findings []hypervisor.Finding `json:"findings"`
			}
			var all []checked
			missing := 0
			for _, hf := range a.hostFiles(s) {
				if len(args) == 1 && args[0] != hf.Name {
					continue
				}
				h, err := a.openHost(hf)
				if err != nil {
					return err
				}
				found := h.Check(c.Context())
				for _, f := range found {
					if !f.OK {
						missing++
					}
				}
				all = append(all, checked{hf.Name, found})
			}
			if len(all) == 0 {
				return usagef("there is no host %q; see: lifeboat host list", args[0])
			}
			if a.json {
				a.printJSON(all)
			} else {
				var rows [][]string
				for _, h := range all {
					for _, f := range h.Findings {
						rows = append(rows, []string{h.Host, okWord(f.OK), f.What, f.Detail})
					}
				}
				a.print("%s", table([]string{"HOST", "WORKS", "WHAT", ""}, rows))
			}
			if missing > 0 {
				return &lifeboat.Problem{
					What: "some of what was looked at does not work here",
					Safe: "nothing was changed",
					Next: "read the lines marked 'no'; each says what helps",
					Err:  lifeboat.ErrPartial,
				}
			}
			return nil
		},
	}
}

func okWord(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}
