package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/hypervisor"
)

func (a *app) hostCommand() *cobra.Command {
	return group("host", "Say where machines run",
		"  lifeboat host add kvm1 --kind libvirt --uri qemu+ssh://root@kvm1/system\n  lifeboat host check", "set",
		a.hostAddCommand(), a.hostListCommand(), a.hostCheckCommand(), a.hostPasswordCommand(), a.hostTrustCommand(), a.hostRemoveCommand())
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
				rows = append(rows, []string{h.Name, h.Kind, h.where(), h.User})
			}
			a.print("%s", table([]string{"HOST", "KIND", "WHERE", "USER"}, rows))
			return nil
		},
	}
}

// checkedHost is what `host check` says of one host.
type checkedHost struct {
	Host     string               `json:"host"`
	Kind     string               `json:"kind"`
	Findings []hypervisor.Finding `json:"findings"`
}

func (a *app) hostCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [HOST]", Short: "Say what works on a host and what does not, without changing anything",
		Long: "Looks at every host, or at one: whether it can be reached, what the user may do there, change\n" +
			"tracking, agents, memory, space, firmware. The hosts are looked at side by side; one that does\n" +
			"not answer within a minute is said to do so.",
		Example:           "  lifeboat host check\n  lifeboat host check lab --json",
		Annotations:       exits(exitPartial),
		Args:              oneArgAtMost("the name of a host"),
		ValidArgsFunction: a.completeHosts,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.siteOrNone()
			if err != nil {
				return err
			}
			files := a.hostFiles(s)
			if len(args) == 1 {
				h, err := findHost(files, args[0])
				if err != nil {
					return err
				}
				files = []hostFile{h}
			}
			return a.showChecks(a.checkHosts(c.Context(), files))
		},
	}
}

// checkPatience is how long a host may take to say what works on it.
const checkPatience = time.Minute

// checkHosts looks at hosts side by side.
func (a *app) checkHosts(ctx context.Context, files []hostFile) []checkedHost {
	all := make([]checkedHost, len(files))
	var work sync.WaitGroup
	for i, hf := range files {
		work.Go(func() {
			found, err := answer(ctx, checkPatience, func(ctx context.Context) ([]hypervisor.Finding, error) {
				h, err := a.openHost(hf)
				if err != nil {
					return nil, err
				}
				return h.Check(ctx), nil
			})
			if err != nil {
				found = append(found, unreachable(err))
			}
			all[i] = checkedHost{hf.Name, hf.Kind, found}
		})
	}
	work.Wait()
	return all
}

// unreachable is the finding of a host that could not be looked at.
func unreachable(err error) hypervisor.Finding {
	f := hypervisor.Finding{What: "reachable", Detail: err.Error()}
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		f.Detail = p.What + "; " + p.Next
	}
	return f
}

func (a *app) showChecks(all []checkedHost) error {
	missing := 0
	var rows [][]string
	for _, h := range all {
		for _, f := range h.Findings {
			if !f.OK {
				missing++
			}
			rows = append(rows, []string{h.Host, okWord(f.OK), f.What, f.Detail})
		}
	}
	if a.json {
		a.printJSON(all)
	} else {
		a.print("%s", remarks(a.columns(), []string{"HOST", "WORKS", "WHAT", ""}, rows))
	}
	if missing == 0 {
		return nil
	}
	return &lifeboat.Problem{
		What: "some of what was looked at does not work here",
		Safe: "nothing was changed",
		Next: "read the lines marked 'no'; each says what helps",
		Err:  lifeboat.ErrPartial,
	}
}

func okWord(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}

// findHost picks a host by its name.
func findHost(all []hostFile, name string) (hostFile, error) {
	i := slices.IndexFunc(all, func(h hostFile) bool { return h.Name == name })
	if i < 0 {
		return hostFile{}, usagef("there is no host %q; see: lifeboat host list", name)
	}
	return all[i], nil
}

// completeHosts offers the names of the hosts.
func (a *app) completeHosts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	s, err := a.siteOrNone()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, h := range a.hostFiles(s) {
		names = append(names, h.Name+"\t"+h.Kind+" "+h.where())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
