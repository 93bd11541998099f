/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's console log: from its monitor while that lives and answers, else from the files. */
#include <stdio.h>
#include <string.h>

#include "console_file.h"
#include "places_internal.h"

void place_answer_waits(struct place *place)
{
    struct places *places = place->owner;
    for (size_t i = 0; i < places->waits_len;) {
        struct console_wait wait = places->waits[i];
        if (memcmp(&wait.key, &place->key, sizeof wait.key) != 0) {
            i++;
            continue;
        }
        places->waits[i] = places->waits[--places->waits_len];
        struct vdc_msg_command_result result = {
            .request_id = wait.request_id,
            .rc = VDC_RC_UNAVAILABLE,
        };
        vdc_str_set(result.text, sizeof result.text, "the guest has just ended: ask again");
        places->config.on_command_result(places->config.data, wait.session, &result);
    }
}

void place_take_console(struct place *place, uint64_t ticket, enum vdc_rc rc, const char *text,
                        const struct monitor_console *console)
{
    struct places *places = place->owner;
    for (size_t i = 0; i < places->waits_len; i++) {
        if (places->waits[i].ticket != ticket) {
            continue;
        }
        struct console_wait wait = places->waits[i];
        places->waits[i] = places->waits[--places->waits_len];
        struct vdc_msg_command_result result = {.request_id = wait.request_id, .rc = rc};
        if (rc != VDC_RC_OK) {
            snprintf(result.text, sizeof result.text, "%s", text);
        } else if (console != NULL) {
            result.offset = console->offset;
            result.end = console->end;
            result.data.data = console->data;
            result.data.len = console->len;
        }
        places->config.on_command_result(places->config.data, wait.session, &result);
        return;
    }
}

static void answer_from_file(struct places *places, const struct vdc_agent_action *action,
                             const struct place *place)
{
    const struct vdc_msg_command *command = action->console.command;
    struct vdc_msg_command_result result = {.request_id = command->request_id};
    struct vdc_buf data = {0};
    char name[64];
    place_key_text(&action->key, name);
    vdc_autofree char *dir = vdc_asprintf("%s/%s", places->partitions_dir, name);
    uint64_t known_end = place != NULL ? place->console_end : 0;
    struct vdc_agent_monitor_state last;
    if (known_end == 0 && !agent_monitor_read_final(dir, &last, &known_end)) {
        known_end = 0;
    }
    if (!action->console.known ||
        !agent_console_file_read(dir, known_end, command->offset,
                                 VDC_MIN(command->max, VDC_MSG_CONSOLE_MAX), &data, &result.offset,
                                 &result.end)) {
        result.rc = VDC_RC_NOT_FOUND;
        vdc_str_set(result.text, sizeof result.text, "no console log of this partition is here");
    }
    result.data.data = vdc_buf_text(&data);
    result.data.len = data.len;
    places->config.on_command_result(places->config.data, action->console.session, &result);
    vdc_buf_deinit(&data);
}

void agent_places_read_console(struct places *places, const struct vdc_agent_action *action)
{
    struct place *place = action->console.known ? place_find(places, &action->key) : NULL;
    if (!action->console.live || place == NULL || place->client == NULL ||
        places->waits_len == CONSOLE_WAITS_MAX) {
        answer_from_file(places, action, place);
        return;
    }
    uint64_t ticket = TICKET_OWN | ++places->tickets;
    places->waits[places->waits_len++] = (struct console_wait){
        .ticket = ticket,
        .key = action->key,
        .session = action->console.session,
        .request_id = action->console.command->request_id,
    };
    if (!agent_monitor_client_read_console(place->client, ticket, action->console.command->offset,
                                           action->console.command->max)) {
        places->waits_len--;
        answer_from_file(places, action, place);
    }
}
