package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func (a *app) hostPasswordCommand() *cobra.Command {
	var file string
	var noCheck, dryRun bool
	c := &cobra.Command{
		Use: "password HOST", Short: "Change the password that signs in at a host",
		Long: "Keeps another password for a vsphere host. It is tried first: one that the host does not take\n" +
			"does not replace the one that is kept.",
		Example:           "  lifeboat host password vc\n  lifeboat host password vc --password-file new.txt",
		Annotations:       exits(exitPerson, exitStopped),
		Args:              exactArgs("the name of a host"),
		ValidArgsFunction: a.completeHosts,
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.siteHost(args[0])
			if err != nil {
				return err
			}
			if h.Kind != kindVSphere {
				return usagef("host %s is a %s host, for which Lifeboat keeps no password", h.Name, h.Kind)
			}
			password, err := a.newHostPassword(c.Context(), h, file)
			if err != nil {
				return err
			}
			if !noCheck {
				if _, err := a.tryHost(c.Context(), h, password); err != nil {
					return err
				}
			}
			if dryRun {
				a.note("host %s: the new password would be kept", h.Name)
				return nil
			}
			if err := a.setHostPassword(h.Name, password); err != nil {
				return err
			}
			a.note("host %s: the new password is kept", h.Name)
			return nil
		},
	}
	c.Flags().StringVar(&file, "password-file", "", "file that holds the password, on one line")
	c.Flags().BoolVar(&noCheck, "no-check", false, "keep it without trying it")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "try it, and keep the one that is kept")
	return c
}

func (a *app) hostTrustCommand() *cobra.Command {
	var thumbprint string
	var dryRun bool
	c := &cobra.Command{
		Use: "trust HOST", Short: "Believe the certificate that a host shows now",
		Long: "Pins the certificate of a vsphere host after it was renewed. Without --thumbprint it is shown, to\n" +
			"be compared with what the server itself shows; one that a known authority vouches for is believed\n" +
			"as usual, and the pin goes.",
		Example:           "  lifeboat host trust vc\n  lifeboat host trust vc --thumbprint 6A:1F:...",
		Annotations:       exits(exitPerson, exitStopped),
		Args:              exactArgs("the name of a host"),
		ValidArgsFunction: a.completeHosts,
		RunE: func(c *cobra.Command, args []string) error {
			return a.trustHost(c.Context(), args[0], thumbprint, dryRun)
		},
	}
	c.Flags().StringVar(&thumbprint, "thumbprint", "", "SHA-256 (or SHA-1) of the certificate, as it was compared")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "try it, and say what would be believed")
	return c
}

func (a *app) trustHost(ctx context.Context, name, thumbprint string, dryRun bool) error {
	h, err := a.siteHost(name)
	if err != nil {
		return err
	}
	if h.Kind != kindVSphere {
		return usagef("host %s is a %s host: who it is, is checked by %s itself", h.Name, h.Kind, h.Kind)
	}
	if thumbprint == "" {
		if thumbprint, err = a.believed(ctx, h, "lifeboat host trust "+shellWord(h.Name)); err != nil {
			return err
		}
	}
	h.Thumbprint = thumbprint
	password, err := a.hostPassword(h.Name)
	if err != nil {
		return err
	}
	if _, err := a.tryHost(ctx, h, password); err != nil {
		return err
	}
	if dryRun {
		a.note("host %s: its certificate would be believed", h.Name)
		return nil
	}
	err = a.changeSite(func(s *siteFile) error {
		i := slices.IndexFunc(s.Hosts, func(other hostFile) bool { return other.Name == h.Name })
		if i < 0 {
			return usagef("host %s was taken out of the site meanwhile", h.Name)
		}
		s.Hosts[i].Thumbprint = h.Thumbprint
		return nil
	})
	if err != nil {
		return err
	}
	a.note("host %s: its certificate is believed now", h.Name)
	return nil
}

func (a *app) hostRemoveCommand() *cobra.Command {
	var yes, dryRun bool
	c := &cobra.Command{
		Use: "remove HOST", Short: "Take a host out of the site",
		Long: "Takes a host out of site.yaml and forgets its password. Its machines run on and are not exported\n" +
			"any more; their restore points stay on the drives.",
		Example:           "  lifeboat host remove lab\n  lifeboat host remove vc --yes",
		Annotations:       exits(exitPerson, exitStopped),
		Args:              exactArgs("the name of a host"),
		ValidArgsFunction: a.completeHosts,
		RunE: func(c *cobra.Command, args []string) error {
			return a.removeHost(c.Context(), args[0], yes, dryRun)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done")
	return c
}

func (a *app) removeHost(ctx context.Context, name string, yes, dryRun bool) error {
	h, err := a.siteHost(name)
	if err != nil {
		return err
	}
	plan, err := a.removeHostPlan(h)
	if err != nil {
		return err
	}
	if dryRun {
		a.print("%s", plan)
		return nil
	}
	if err := a.confirm(ctx, yes, plan); err != nil {
		return err
	}
	err = a.changeSite(func(s *siteFile) error {
		s.Hosts = slices.DeleteFunc(s.Hosts, func(other hostFile) bool { return other.Name == h.Name })
		return nil
	})
	if err != nil {
		return err
	}
	if h.Kind == kindVSphere {
		if err := a.setHostPassword(h.Name, ""); err != nil {
			return err
		}
	}
	if a.hasMemory() {
		if cat := a.remembered(ctx); cat != nil {
			if err := cat.ForgetHost(ctx, h.Name); err != nil {
				a.warn("%v", err)
			}
		}
	}
	a.note("host %s removed", h.Name)
	return nil
}

func (a *app) removeHostPlan(h hostFile) (string, error) {
	plan := fmt.Sprintf("This takes host %s (%s, %s) out of the site. Its machines run on, and are not exported any more.\n", h.Name, h.Kind, h.where())
	if h.Kind == kindVSphere {
		plan += "Its password is forgotten.\n"
	}
	runs, err := a.bootedRuns()
	if err != nil {
		return "", err
	}
	for _, b := range runs {
		if slices.ContainsFunc(b.hosts(), func(of hostFile) bool { return of.Name == h.Name }) && h.Kind == kindVSphere {
			plan += fmt.Sprintf("Machines that run %s booted there cannot be stopped from here any more.\n", short(b.Run))
		}
	}
	return plan, nil
}

// siteHost finds a host in site.yaml.
func (a *app) siteHost(name string) (hostFile, error) {
	s, err := a.siteOfHosts()
	if err != nil {
		return hostFile{}, err
	}
	i := slices.IndexFunc(s.Hosts, func(h hostFile) bool { return h.Name == name })
	if i < 0 {
		return hostFile{}, usagef("there is no host %q in %s; see: lifeboat host list", name, a.sitePath())
	}
	return s.Hosts[i], nil
}
