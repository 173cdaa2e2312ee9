package rotation

import "slices"

// Loses names the machines, by id, that would be left without a good copy if a
// drive forgot some points: those with a verified copy that counts now and none
// then and, where nothing of a machine is verified, those of which no point stays
// on the drive. Only a person who names such a machine may let that happen.
func Loses(s Shelf, driveID string, ids []string) (machines []string) {
	left := Shelf{Drives: slices.Clone(s.Drives)}
	stays := map[string]bool{}
	var asked []string
	for i, d := range left.Drives {
		if d.ID != driveID {
			continue
		}
		left.Drives[i].Points = nil
		for _, p := range d.Points {
			if slices.Contains(ids, p.ID) {
				asked = append(asked, p.MachineID)
				continue
			}
			stays[p.MachineID] = true
			left.Drives[i].Points = append(left.Drives[i].Points, p)
		}
	}
	now, then := copiesOf(eachOnce(s)), copiesOf(eachOnce(left))
	slices.Sort(asked)
	for _, id := range slices.Compact(asked) {
		good := slices.ContainsFunc(now[id], (*restorable).verified)
		if slices.ContainsFunc(then[id], (*restorable).verified) || !good && stays[id] {
			continue
		}
		machines = append(machines, id)
	}
	return machines
}
