-- The application's own table, in its usual form: users see their own row, and cannot make themselves admin.
SET ROLE postgres;
CREATE TABLE public.user_profiles (
    id         uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    name       text,
    is_admin   boolean NOT NULL DEFAULT false
);
ALTER TABLE public.user_profiles ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.user_profiles TO authenticated;
CREATE POLICY own_profile ON public.user_profiles FOR SELECT USING (id = auth.uid());
RESET ROLE;
