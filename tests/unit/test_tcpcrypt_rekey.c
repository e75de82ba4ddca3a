/* SPDX-License-Identifier: BSD-3-Clause
 * Generation numbers.
 */
#include "tcpcrypt/rekey.h"
#include "vectors.h"

/* RFC 8548 3.8, 3.9; interpretation I08 */
static void check_state(json_t *c)
{
    struct rekey r = {0};
    json_t *events = vec_list(c, "events");

    for (size_t i = 0; i < json_array_size(events); i++) {
        json_t *event = json_array_get(events, i);

        if (vec_is(event, "event", "initiate")) {
            rekey_initiate(&r);
        } else if (vec_is(event, "event", "send")) {
            assert_int_equal(rekey_on_seal(&r), vec_bool(event, "rekey"));
            assert_int_equal(r.sealed, vec_int(event, "frame_generation"));
        } else {
            assert_int_equal(rekey_on_frame(&r, vec_bool(event, "rekey")),
                             vec_bool(event, "must_answer"));
        }
        assert_int_equal(r.local, vec_int(event, "local_generation"));
        assert_int_equal(r.remote, vec_int(event, "remote_generation"));
    }
}

static void test_state(void **state)
{
    vectors_run("rekey_state", check_state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_state, vectors_blame),
    };

    return cmocka_run_group_tests_name("tcpcrypt/rekey", tests, vectors_setup, vectors_teardown);
}
