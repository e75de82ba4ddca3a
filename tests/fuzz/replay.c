/* SPDX-License-Identifier: BSD-3-Clause
 * Runs a fuzz target over files and folders of files, without libFuzzer.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_MAX_LEN (1024 * 1024)

static size_t replayed_cnt;

static int replay_file(const char *path)
{
    static uint8_t bytes[INPUT_MAX_LEN];
    FILE *f = fopen(path, "rb");

    if (!f) {
        perror(path);
        return 1;
    }
    size_t len = fread(bytes, 1, sizeof(bytes), f);
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, len);
    replayed_cnt++;
    return 0;
}

static int replay(const char *path);

static int replay_folder(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int failed = 0;

    if (!dir) {
        perror(path);
        return 1;
    }
    while ((entry = readdir(dir))) {
        char file[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        failed |= replay(file);
    }
    closedir(dir);
    return failed;
}

static int replay(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        perror(path);
        return 1;
    }
    return S_ISDIR(st.st_mode) ? replay_folder(path) : replay_file(path);
}

int main(int argc, char **argv)
{
    int failed = 0;

    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    printf("%zu inputs replayed\n", replayed_cnt);
    return failed || replayed_cnt == 0;
}
