package qemu

import (
	"context"
	"encoding/json"
	"path/filepath"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// seeAddresses asks the guest for its names and addresses and writes them to the
// description. Without an agent the description stays as it is.
func (m *machine) seeAddresses(ctx context.Context, d *lifeboat.Machine) {
	if !m.def.Machine.Agent {
		return
	}
	a, err := dialAgent(ctx, filepath.Join(m.sockets(), agentSocket))
	if err != nil {
		return
	}
	defer a.close()
	var silent error
	hypervisor.AskGuest(ctx, func(ctx context.Context, command string, arguments map[string]any) (json.RawMessage, error) {
		// What comes late would be taken for the answer to the next question.
		if silent != nil {
			return nil, silent
		}
		var answer json.RawMessage
		err := a.run(ctx, agentPatience, command, arguments, &answer)
		if !refused(err) {
			silent = err
		}
		return answer, err
	}, d, time.Now().UTC())
}
