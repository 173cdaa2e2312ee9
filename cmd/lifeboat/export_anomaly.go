package main

import (
	"context"
	"fmt"

	"lifeboat"
	"lifeboat/catalog"
)

// sayUnusual tells loudly that a machine changed as if somebody had encrypted
// it. The point is committed all the same: it may be all that there is.
func (e *exportRun) sayUnusual(j exportJob, c *lifeboat.Change) {
	text := fmt.Sprintf("%s: UNUSUAL CHANGES, %d of 100: %s. Look at the machine now. If it was not you: keep the older points and the other drives, and attach none of them to it", j.name, c.Score, c.Why)
	e.run.log(event{Event: "anomaly", Machine: j.name, Text: text, Result: c})
	e.a.warn("%s", text)
}

// densityElsewhere is how dense a machine's data was when it was first exported
// to another drive, as far as the catalogue knows; 0 when it knows nothing.
func (e *exportRun) densityElsewhere(ctx context.Context, machineID string) float64 {
	if e.cat == nil {
		return 0
	}
	points, err := e.cat.Points(ctx, catalog.PointFilter{MachineID: machineID})
	if err != nil {
		return 0
	}
	density := 0.0
	for _, p := range points {
		if p.WholeDensity > 0 {
			density = p.WholeDensity // the newest that is known
		}
	}
	return density
}
