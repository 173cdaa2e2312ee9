package main

import (
	"fmt"
	"runtime"
	"slices"

	mcobra "github.com/muesli/mango-cobra"
	"github.com/muesli/roff"
	"github.com/spf13/cobra"

	"lifeboat/hypervisor/libvirt"
	"lifeboat/imagestore/format"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the program's version and what is in this build", GroupID: "look",
		Example:     "  lifeboat version\n  lifeboat version --json",
		Annotations: exits(), Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			about := struct {
				Version  string   `json:"version"`
				Go       string   `json:"go"`
				Platform string   `json:"platform"`
				Format   int      `json:"driveFormat"`
				Hosts    []string `json:"hostKinds"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, format.Version, builtKinds()}
			if a.json {
				a.printJSON(about)
				return nil
			}
			a.print("lifeboat %s\n  drive format %d, host kinds: %s\n  %s %s\n", about.Version, about.Format, list(about.Hosts), about.Go, about.Platform)
			return nil
		},
	}
}

// builtKinds are the kinds of hosts that this build can talk to.
func builtKinds() []string {
	return slices.DeleteFunc(slices.Clone(kindNames), func(kind string) bool { return kind == kindLibvirt && !libvirt.Built })
}

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Print the manual page", Hidden: true, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			page, err := mcobra.NewManPage(1, c.Root())
			if err != nil {
				return fmt.Errorf("write the manual page: %w", err)
			}
			a.print("%s", page.Build(roff.NewDocument()))
			return nil
		},
	}
}
