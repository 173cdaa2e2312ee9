package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/catalog"
	"lifeboat/custody"
)

func (a *app) rotateExampleCommand() *cobra.Command {
	return &cobra.Command{
		Use: "example", Short: "Print a section rotation for site.yaml, with the drives that you have",
		Example:     "  lifeboat rotate example\n  lifeboat rotate example >> /var/lib/lifeboat/site.yaml",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			labels, err := a.exampleLabels(c.Context())
			if err != nil {
				return err
			}
			text := rotationExample(labels, time.Local.String())
			if a.json {
				a.printJSON(map[string]string{"yaml": text})
				return nil
			}
			a.print("%s", text)
			return nil
		},
	}
}

// exampleLabels are the labels of the drives that are known, and at least two.
func (a *app) exampleLabels(ctx context.Context) (labels []string, err error) {
	if a.hasMemory() {
		if err := a.withCatalog(ctx, func(cat *catalog.Catalog) error {
			shelf, err := a.shelf(ctx, cat)
			for _, d := range shelf.Drives {
				if d.Place.State != custody.Retired && d.Place.State != custody.Lost {
					labels = append(labels, d.Label)
				}
			}
			return err
		}); err != nil {
			return nil, err
		}
	}
	for _, l := range []string{"A", "B"} {
		if len(labels) < 2 {
			labels = append(labels, l)
		}
	}
	return labels, nil
}

func (a *app) withCatalog(ctx context.Context, do func(cat *catalog.Catalog) error) error {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	return do(cat)
}

// rotationExample is a section that can be used as it stands once the names are
// those of one's own.
func rotationExample(labels []string, zone string) string {
	var quoted []string
	for _, l := range labels {
		quoted = append(quoted, fmt.Sprintf("%q", l))
	}
	hash := ""
	if zone == "Local" || zone == "" {
		hash, zone = "# ", "Europe/Berlin"
	}
	return strings.NewReplacer("SETS", strings.Join(quoted, ", "), "#ZONEzone: ZONE", hash+"zone: "+zone).Replace(exampleText)
}

const exampleText = `rotation:
  scheme:
    kind: round-robin      # the sets take turns; or gfs, or hanoi
    # The labels of the drives. A set of two drives: {name: big, drives: [C1, C2]}
    sets: [SETS]
    change: weekly         # or daily
    swapDay: friday        # a holiday moves it to the last workday before
  calendar:
    #ZONEzone: ZONE
    dayEnds: "06:00"       # a run after midnight belongs to the evening before
    workdays: monday to friday
    holidays: []           # [2026-12-24 to 2026-12-26, 2027-01-01]
  locations:
    - name: office
    - name: bank
      offsite: true        # what is here survives when the office burns down
      contact: ""          # whom to call
      hours: 9 to 16       # for people
      openDays: monday to friday
      leadTime: 4h         # from the call until the drive is in your hands
      authorised: []       # whom they let in; nobody named: anyone
  people:
    - name: Anna
      contact: ""
      deputies: [Ben]
    - name: Ben
  objectives:
    offsite: 9d            # how old the newest verified copy outside may be
    machines: {}           # {db: 8d}
  retention:               # on each drive, for each machine; without any rule all is kept
    daily: 14              # the newest point of each of so many days, weeks and months
    weekly: 8
    monthly: 12
  wrongDrive: refuse       # or export: with a warning
  # standing: /srv/lifeboat   # a store on a NAS or a local disk that every export writes first
  verifyEvery: 8w          # rotate says when a drive was not verified for so long
  proveEvery: 6mo          # and when nothing was booted from it
`
